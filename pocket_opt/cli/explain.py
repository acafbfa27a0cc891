"""`explain NODE`: what a node's key is made of, and what differs from the last run of that recipe, target and level."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape

from pocket_opt.cli.console import console
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.home import read_json
from pocket_opt.planner import plan_variant
from pocket_opt.variants import materials, memory_of, open_store

USAGE = "usage: pocket-opt explain NODE [KEY=VALUE ...]"


def run(arguments: Sequence[str]) -> int:
    """Print the key material of one node and its difference from the last run."""
    if "--help" in arguments or "-h" in arguments:
        console.print(USAGE, markup=False)
        return 0
    names = [word for word in arguments if "=" not in word and not word.startswith(("-", "+", "~"))]
    if len(names) != 1:
        raise UserError(
            "explain takes the name of one node", where="command line", allowed=USAGE, fix="see `plan`"
        )
    lines = [word for word in arguments if word != names[0]]
    plan = plan_variant(load(lines), lines)
    node = plan.graph[names[0]]
    material = materials(plan)[node.name]
    state = "in the store" if open_store().has(plan.keys[node.name]) else "not in the store"
    console.print(f"[bold]{escape(node.name)}[/bold]  {escape(node.why)}")
    console.print(f"key {plan.keys[node.name]} ({state})\nmade of:")
    console.print(json.dumps(material, indent=2), markup=False)
    _show_difference(node.name, material, read_json(memory_of(plan)))
    return 0


def _show_difference(name: str, material: Mapping[str, Any], last: Mapping[str, Any] | None) -> None:
    if last is None:
        console.print("this recipe, target and level have not run yet on this machine")
        return
    if name not in last:
        console.print("the last run had no such node")
        return
    changes = list(_differences(last[name], material))
    console.print("since the last run:" if changes else "nothing differs from the last run")
    for path, before, now in changes:
        console.print(f"  {path}: {before} → {now}", markup=False)


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, with its path."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
    elif before != now:
        yield path, before, now
