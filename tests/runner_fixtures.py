"""Models and sounds that make decoding interesting: pairs of times, windows read twice, rows of unequal length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

SAMPLE_RATE = 16_000
WORDS = range(40, 300, 40)
"""The only words that a talkative model may say; so few that times often outweigh them."""


def talkative_checkpoint(directory: Path, *, seed: int, pad: int | None = None, **shape: Any) -> Artifact:
    """A random checkpoint whose generation configuration leaves it few words; `pad` other than the end token."""
    artifact = tiny_checkpoint(directory, seed=seed, **shape)
    path = directory / "generation_config.json"
    table = json.loads(path.read_text())
    end, no_timestamps = table["eos_token_id"], table["no_timestamps_token_id"]
    table["suppress_tokens"] = [*(set(range(end)) - set(WORDS)), *range(end + 1, no_timestamps)]
    table["max_length"] = 40
    table["pad_token_id"] = table["pad_token_id"] if pad is None else pad
    path.write_text(json.dumps(table))
    return artifact


def export(source: Artifact, workdir: Path, decoder: str = "kv_cache") -> Artifact:
    """The ONNX graphs of `source`, written into the new directory `workdir`."""
    workdir.mkdir(parents=True)
    step = load_pass("export_onnx")
    return execute(step, {"model": source}, step.Params(decoder=decoder), workdir).artifact


def sound(seconds: float, kind: int) -> np.ndarray:
    """A wavering tone in noise, both different for each `kind`."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    gate = np.sin(time * (2 + kind)) > 0
    tone = (
        0.3 * np.sin(2 * np.pi * time * (150 + 400 * kind) * (1 + 0.3 * np.sin(time * (kind + 1) * 3))) * gate
    )
    noise = np.random.default_rng(kind).standard_normal(len(time)) * 10.0 ** -(1 + kind)
    return (tone + noise).astype(np.float32)
