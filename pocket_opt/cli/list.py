"""`list`: recipes, targets, levels, decoders, experiments and passes, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from pocket_opt.cli.console import console
from pocket_opt.config import groups
from pocket_opt.errors import unknown_name
from pocket_opt.passes import load_pass, pass_modules, summary

KINDS = (*groups.GROUPS, "pass")


def run(arguments: Sequence[str]) -> int:
    """Print one table a kind; `list recipe` prints only that one."""
    kinds = [_kind(word) for word in arguments if not word.startswith("-")] or list(KINDS)
    if "--help" in arguments or "-h" in arguments:
        console.print(f"usage: pocket-opt list [{' | '.join(KINDS)}]", markup=False)
        return 0
    for kind in kinds:
        table = Table(f"{kind}", "", box=None, pad_edge=False, header_style="bold", title_justify="left")
        for name, text in _rows(kind):
            table.add_row(escape(name), text)
        console.print(table, "")
    return 0


def _kind(word: str) -> str:
    singular = {f"{kind}s": kind for kind in KINDS} | {"passes": "pass"}
    kind = singular.get(word, word)
    if kind not in KINDS:
        raise unknown_name("kind of thing to list", word, KINDS, where="list")
    return kind


def _rows(kind: str) -> list[tuple[str, str]]:
    if kind == "pass":
        kinds = {name: load_pass(name).kind for name in sorted(pass_modules())}
        return [(name, f"[dim]{kind}[/dim]  {escape(summary(name))}") for name, kind in kinds.items()]
    return [(name, escape(groups.summary(kind, name))) for name in groups.choices(kind)]
