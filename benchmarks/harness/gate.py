"""Whether an engine computes the model at all: its logits against those of fp32 on the same tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.engines import GATE_DB, Engine

LIMIT_DB = 200.0
"""Stands for equal to the last bit; JSON knows no infinity."""


@dataclass(frozen=True)
class Verdict:
    """`sqnr_db`: signal over noise of the logits; `top1`: share of places with the same most probable token."""

    sqnr_db: float
    top1: float
    bound_db: float

    @property
    def passed(self) -> bool:
        """Whether the engine is near enough to count."""
        return self.sqnr_db >= self.bound_db


def verdict(engine: Engine, reference: Path, logits: Path) -> Verdict:
    """Compare two files of logits `[tokens, vocab]`.

    Rows are centred first, so that log probabilities count like logits; tokens that the engine suppressed are left out.
    """
    expected, found = np.load(reference), np.load(logits)
    if expected.shape != found.shape:
        raise ValueError(f"logits of shape {found.shape} instead of {expected.shape}")
    kept = (np.abs(found) < 1e30).all(axis=0)
    expected, found = expected[:, kept], found[:, kept]
    same = float((expected.argmax(-1) == found.argmax(-1)).mean())
    return Verdict(sqnr_db(expected, found), same, GATE_DB[engine.precision])


def sqnr_db(expected: Any, found: Any) -> float:
    """10 log10 of the energy of `expected` over that of the difference, rows centred; at most `LIMIT_DB`."""
    expected, found = (values - values.mean(axis=-1, keepdims=True) for values in (expected, found))
    noise = float(np.square(expected - found, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    return min(LIMIT_DB, float(10 * np.log10(signal / noise))) if noise else LIMIT_DB
