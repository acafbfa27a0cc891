"""`plan`: the graph of each variant as a table and a tree, with what is cached and what is off, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pocket_opt.cli.console import console, title
from pocket_opt.cli.planned import plan_all
from pocket_opt.graph import Node
from pocket_opt.planner import Plan
from pocket_opt.store import Store
from pocket_opt.variants import destination, open_store

USAGE = (
    "usage: pocket-opt plan [-m] [KEY=VALUE ...]\n\nShows what would run. Loads no model, needs no network.\n"
)


def run(arguments: Sequence[str]) -> int:
    """Print the plan of every variant that the overrides describe."""
    if "--help" in arguments or "-h" in arguments:
        console.print(USAGE, markup=False)
        return 0
    store = open_store()
    for variant in plan_all(arguments):
        if variant.plan.fallback is not None:
            show(variant.plan.fallback, store)
        show(variant.plan, store)
    return 0


def show(plan: Plan, store: Store) -> None:
    """Print one plan: table, tree, what is off."""
    console.print(f"\n{title(plan)} → {escape(str(destination(plan)))}")
    states = _states(plan, store)
    table = Table(
        "node", "pass", "parameters", "inputs", "state", "why", box=None, pad_edge=False, header_style="bold"
    )
    for node in plan.graph:
        words = (node.name, node.pass_name, _parameters(node), ", ".join(node.inputs.values()))
        table.add_row(*map(escape, words), states[node.name], escape(node.why))
    for name, why in plan.off.items():
        table.add_row(escape(name), "", "", "", "off", escape(why), style="dim")
    console.print(table)
    console.print(_tree(plan))
    for hub_id, revision in plan.downloads:
        console.print(f"to download first: {hub_id} ({revision}); keys are known after that", markup=False)


def _states(plan: Plan, store: Store) -> dict[str, str]:
    """What will become of each node: those that only led to what is there need not be made again."""
    present = {name for name, key in plan.keys.items() if store.has(key)}
    to_run = plan.graph.needed(present) - present
    states = dict.fromkeys(plan.keys, "[dim]not needed[/dim]")
    states |= dict.fromkeys(present, "[dim]cached[/dim]")
    return states | dict.fromkeys(to_run, "[green]to run[/green]")


def _parameters(node: Node) -> str:
    shown = (
        f"{key}={_short(value)}" for key, value in node.params.items() if value not in (None, [], {}, "")
    )
    return " ".join(shown)


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:8]}…" if len(text) == 64 else text.replace("'", "").replace(" ", "")


def _tree(plan: Plan) -> Tree:
    """Builds hang below what they are built from; a measurement of two models hangs below the first."""
    root = Tree("[bold]graph[/bold]")
    branches: dict[str, Tree] = {}
    for node in plan.graph:
        source = next(iter(node.inputs.values()), None)
        branch = branches[source] if source else root
        branches[node.name] = branch.add(escape(node.name), style="" if node.kind == "build" else "dim")
    return root
