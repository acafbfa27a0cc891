"""How far to go on a path: as far as the words that are expected to change stay within a limit. Pure.

A small error moves the logits by about the root of the divergence, and a token changes where the move is longer than
the lead of the best token. So words change in proportion to the root of the error; only the slope must be measured. It
is read from all variants that were decoded, those near in error most: a word more or less in a single one is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

MOST_TRIED = 8
"""Variants that are decoded at most; mostly four or five are enough."""


@dataclass(frozen=True)
class Trial:
    """A variant that was decoded: the error in nats a token that was expected, and how many of its words changed."""

    error: float
    changed: int
    words: int

    def weight(self, error: float) -> float:
        """How much this says of an error: 1 for the same, less with distance on either side."""
        less, more = sorted((self.error, error))
        return less / more if more else 1.0


def expected(error: float, trials: Iterable[Trial]) -> float:
    """The words in % that change with `error`, by `trials`."""
    known = [(one, one.weight(error)) for one in trials]
    changed = sum(weight * one.changed for one, weight in known)
    words = sum(weight * one.words * one.error**0.5 for one, weight in known)
    return 100 * error**0.5 * changed / words if words else 0.0


def furthest(errors: Sequence[float], limit: float, try_out: Callable[[int], Trial]) -> int:
    """The last place of a path up to which not more than `limit` % of the words are expected to change.

    Args:
        errors: the sum of the errors at each place, the first 0.
        try_out: decodes the variant of a place.
    """
    trials: dict[int, Trial] = {}
    place = len(errors) - 1
    while place > 0 and place not in trials and len(trials) < MOST_TRIED:
        trials[place] = try_out(place)
        within = takewhile(lambda error: expected(error, trials.values()) <= limit, errors)
        place = max(sum(1 for _ in within) - 1, 0)
    return place
