"""Repeated timing under a budget of seconds, and percentiles of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, Sequence[float]]
"""Times of one repeat by phase; a phase that happens several times in a repeat (a token) has several."""


@dataclass(frozen=True)
class Plan:
    """How often to repeat: `warmup` runs that do not count, then at least `min_repeats`.

    Warm-up ends early, but not before one run, at a third of `max_seconds`; repeats go on up to `max_repeats` until
    `max_seconds` are used up.
    """

    warmup: int
    min_repeats: int
    max_repeats: int
    max_seconds: float


@dataclass(frozen=True)
class Timed:
    """What was recorded.

    Attributes:
        samples: of the repeats that count.
        warmups: of the runs before them.
    """

    samples: tuple[Sample, ...]
    warmups: tuple[Sample, ...]

    def pooled(self, phase: str) -> list[float]:
        """Every time of one phase over all samples."""
        return [value for sample in self.samples for value in sample.get(phase, ())]


def repeat(once: Callable[[], Sample], plan: Plan, clock: Callable[[], float] = time.perf_counter) -> Timed:
    """Call `once` as the plan says."""
    start = clock()
    warmups: list[Sample] = []
    while len(warmups) < plan.warmup and (not warmups or clock() - start < plan.max_seconds / 3):
        warmups.append(once())
    samples: list[Sample] = []
    while len(samples) < plan.max_repeats:
        if len(samples) >= plan.min_repeats and clock() - start >= plan.max_seconds:
            break
        samples.append(once())
    return Timed(tuple(samples), tuple(warmups))


def percentile(values: Sequence[float], rank: float) -> float:
    """The percentile of measured times, linearly interpolated."""
    import numpy as np

    return float(np.percentile(values, rank))
