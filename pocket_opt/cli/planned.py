"""The variants of a command line, all planned before the first one runs, so that a mistake costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocket_opt.config.loading import expand, load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.variants import destination

SWEEP = ("-m", "--multirun")


@dataclass(frozen=True)
class Planned:
    """One variant: its overrides as typed, one value each, and its plan."""

    lines: tuple[str, ...]
    plan: Plan


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for several variants."""
    return any(word in SWEEP for word in arguments)


def overrides_in(arguments: Sequence[str]) -> list[str]:
    """The arguments without what asks for a sweep."""
    return [word for word in arguments if word not in SWEEP]


def plan_all(arguments: Sequence[str]) -> list[Planned]:
    """Plan every variant that the arguments describe.

    Raises:
        UserError: one of them cannot be carried out, or two would be the same bundle.
    """
    batches = expand(overrides_in(arguments), sweep=is_sweep(arguments))
    planned = [Planned(tuple(lines), plan_variant(load(lines), lines)) for lines in batches]
    first: dict[Path, Planned] = {}
    for variant in planned:
        place = destination(variant.plan)
        if place in first:
            raise _same(first[place], variant, place)
        first[place] = variant
    return planned


def _same(one: Planned, other: Planned, place: Path) -> UserError:
    spellings = [
        " ".join(line for line in mine.lines if line not in theirs.lines) or " ".join(mine.lines)
        for mine, theirs in ((one, other), (other, one))
    ]
    return UserError(
        f"two variants would be the same bundle: {spellings[0]} and {spellings[1]}",
        where=str(place),
        fix="leave one out, or run it by a command of its own with another output_dir",
    )
