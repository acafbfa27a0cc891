"""The errors a user may see, and how they read: what was found, where, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PocketOptError(Exception):
    """A failure during the run (exit code 1): a pass, a worker, a runtime or a device did not do its work."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.allowed, self.fix = what, where, allowed, fix

    def __str__(self) -> str:
        labelled = (("where", self.where), ("allowed", self.allowed), ("next", self.fix))
        return "\n".join([self.what, *(f"  {label + ':':<9}{text}" for label, text in labelled if text)])

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.allowed, self.fix)


class UserError(PocketOptError):
    """Something the user wrote cannot be carried out (exit code 2). Raised before any work is done."""

    exit_code = 2


def _rebuild(kind: type[PocketOptError], what: str, where: str, allowed: str, fix: str) -> PocketOptError:
    return kind(what, where=where, allowed=allowed, fix=fix)


def unknown_name(kind: str, found: str, names: Iterable[str], *, where: str) -> UserError:
    """The error for a misspelt name: lists `names` and proposes the nearest one.

    Args:
        kind: what the name stands for, e.g. "level".
        found: the name as the user wrote it.
        names: every name that would have been right.
        where: the key or file that holds the name.
    """
    known = sorted(set(names))
    near = nearest(found, known)
    return UserError(
        f"there is no {kind} '{found}'" + (f", did you mean '{near}'?" if near else ""),
        where=where,
        allowed=", ".join(known) if known else "(none)",
        fix=f"write {near}" if near else "choose one of the allowed names",
    )


def nearest(found: str, names: Iterable[str], *, cutoff: float = 0.55) -> str | None:
    """The name most like `found`, ignoring case, or None if none is near: `cutoff` is the least likeness, 0 to 1."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(found.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None
