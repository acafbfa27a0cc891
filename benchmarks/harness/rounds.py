"""Interleaved rounds: every engine once a round in shuffled order, so that what disturbs the machine disturbs all."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.children import Child

PAUSE_S = 0.3
"""Lets the threads that the last engine left spinning go to sleep."""

RUNS_A_ROUND = 2


@dataclass
class Times:
    """Runs of one engine by round; each run as `peers/protocol.py` returns it."""

    rounds: list[list[dict[str, Any]]] = field(default_factory=list)

    def median(self, phase: str) -> float | None:
        """Median of `encoder_s`, `first_s`, `token_s` or `total_s` over all runs; None if it was not measured."""
        values = [run[phase] for runs in self.rounds for run in runs if run[phase] is not None]
        return float(np.median(values)) if values else None

    def spread(self) -> tuple[float, float]:
        """Fastest and slowest total, in seconds."""
        totals = [run["total_s"] for runs in self.rounds for run in runs]
        return min(totals), max(totals)

    def ratio_to(self, other: Times) -> float:
        """Median over rounds of this engine's mean total over the other's in the same round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return float(np.median([_mean_total(mine) / _mean_total(theirs) for mine, theirs in pairs]))


def run_rounds(children: Mapping[str, Child], request: Mapping[str, Any], rounds: int) -> dict[str, Times]:
    """Time every child; before the runs that count each has one that does not, as its caches were another's."""
    times = {name: Times() for name in children}
    shuffled = random.Random(0)
    for _ in range(rounds):
        names = list(children)
        shuffled.shuffle(names)
        for name in names:
            time.sleep(PAUSE_S)
            children[name].ask(**{**request, "do": "time", "repeats": 1})
            reply = children[name].ask(**{**request, "do": "time", "repeats": RUNS_A_ROUND})
            times[name].rounds.append(reply["runs"])
    return times


def _mean_total(runs: list[dict[str, Any]]) -> float:
    return float(np.mean([run["total_s"] for run in runs]))
