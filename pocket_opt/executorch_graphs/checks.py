"""What a program must still satisfy: run by its runtime, its methods answer like the modules that they were made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from pocket_opt.artifact import Port
from pocket_opt.errors import PocketOptError
from pocket_opt.executorch_graphs.methods import Method
from pocket_opt.models.whisper.runner.method_backend import MethodSession
from pocket_opt.models.whisper.runner.static_decoder import MASKED
from pocket_opt.onnx_graphs.files import sqnr_db

FILLED = 0.25
"""Share of the cache that is filled in the comparison."""


def require_agreement(
    methods: Mapping[str, Method], session: Callable[[str], MethodSession], *, least_db: float
) -> dict[str, float]:
    """SQNR in dB of every method of the program, over all its outputs, against the module in 32 bits.

    Args:
        session: opens a method by its name.

    Raises:
        PocketOptError: it is below `least_db`, or an answer is not finite.
    """
    return {name: _level(session(name), name, method, least_db) for name, method in methods.items()}


def _level(session: MethodSession, name: str, method: Method, least_db: float) -> float:
    feeds = random_feeds(method.inputs)
    with torch.no_grad():
        expected = method.module(*(torch.from_numpy(array) for array in feeds.values()))
    found = session.run(None, feeds)
    answers = (expected,) if isinstance(expected, torch.Tensor) else expected
    level = min(sqnr_db(old.numpy().reshape(new.shape), new) for old, new in zip(answers, found, strict=True))
    if not level >= least_db:
        raise PocketOptError(
            f"method '{name}' does not agree with its module: SQNR {level:.1f} dB on random inputs",
            where="the program as its runtime runs it",
            allowed=f"at least {least_db:.0f} dB",
            fix="choose a level with more bits, and report this with the model's shapes",
        )
    return level


def random_feeds(ports: tuple[Port, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs by name; the cache is filled in part."""
    random, feeds = np.random.default_rng(0), dict[str, np.ndarray[Any, Any]]()
    for port in ports:
        shape = tuple(map(int, port.shape))
        if port.dtype == "int64":
            feeds[port.name] = np.arange(1, 1 + shape[0])
        elif port.name == "cache_mask":
            feeds[port.name] = np.full(shape, MASKED, np.float32)
            feeds[port.name][..., : round(FILLED * shape[-1])] = 0
        else:
            feeds[port.name] = random.standard_normal(shape).astype(np.float32)
    return feeds
