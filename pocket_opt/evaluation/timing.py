"""Repeated timing under a budget of seconds, and percentiles of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pocket_opt.passes.base import positive

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
class TimingParams:
    """How to measure a clip of forced tokens.

    Attributes:
        new_tokens: tokens generated for the clip; None: 4 for each second of the window.
        beams: sequences that are decoded side by side.
        warmup, min_repeats, max_repeats, max_seconds: see `Plan`.
        threads: of the runtime; 0 is its default.
    """

    new_tokens: int | None = positive(None)
    beams: int = positive(1)
    warmup: int = 3
    min_repeats: int = positive(3)
    max_repeats: int = positive(40)
    max_seconds: float = 8.0
    threads: int = 0

    @property
    def plan(self) -> Plan:
        """How often to repeat."""
        return Plan(self.warmup, self.min_repeats, self.max_repeats, self.max_seconds)

    def conditions(self, tokens: int) -> str:
        """What a method says of them; `tokens` were forced."""
        sequences = f" in each of {self.beams} beams" if self.beams > 1 else ""
        threads = self.threads or "the default of the runtime"
        return f"batch 1, {tokens} forced tokens{sequences}; threads: {threads}"


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
