"""From everything exact to everything small: the moves in the order of the error that a saved byte costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocket_opt.search.layers import Group


@dataclass(frozen=True)
class Move:
    """A group takes the form `form`, adding `error` to the sum and saving `saved` bytes against its form before."""

    group: Group
    form: str
    error: float
    saved: int

    @property
    def price(self) -> float:
        """Error a byte."""
        return self.error / self.saved


Errors = Mapping[tuple[str, str], float]
"""(pattern of a group, form) -> error that it adds alone, against that before any move."""


def path(groups: Sequence[Group], errors: Errors) -> list[Move]:
    """All moves, cheapest first; those of one group in the order of its shrinking forms.

    Errors of single groups are taken to add up, which is nearly so while they are small. Of a group's forms only those
    on the lower convex hull of error over bytes are taken: any other is beaten by a mixture of its neighbours.
    """
    moves = [move for group in groups for move in _moves(group, errors)]
    return sorted(moves, key=lambda move: move.price)


def after(groups: Sequence[Group], moves: Sequence[Move]) -> dict[str, str]:
    """Pattern -> form, once `moves` are made."""
    return {group.pattern: group.start for group in groups} | {
        move.group.pattern: move.form for move in moves
    }


def _moves(group: Group, errors: Errors) -> list[Move]:
    forms = sorted(group.forms, key=group.bytes_as, reverse=True)
    found: list[Move] = []
    at, error = group.start, 0.0
    while True:
        options = [
            Move(group, form, errors[group.pattern, form] - error, group.bytes_as(at) - group.bytes_as(form))
            for form in forms
            if group.bytes_as(form) < group.bytes_as(at)
        ]
        if not options:
            return found
        best = min(options, key=lambda move: (move.price, -move.saved))
        found.append(best)
        at, error = best.form, errors[group.pattern, best.form]
