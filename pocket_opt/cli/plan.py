"""`plan`: the graph of each variant as a table and a tree, with what is cached and what is off, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pocket_opt.cli.console import console
from pocket_opt.config.loading import expand, load
from pocket_opt.graph import Node
from pocket_opt.planner import Plan, plan_variant
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
    sweep = any(word in ("-m", "--multirun") for word in arguments)
    overrides = [word for word in arguments if word not in ("-m", "--multirun")]
    store = open_store()
    for lines in expand(overrides, sweep=sweep):
        show(plan_variant(load(lines), lines), store)
    return 0


def show(plan: Plan, store: Store) -> None:
    """Print one plan: table, tree, what is off."""
    config = plan.config
    console.print(
        f"\n[bold]{config.recipe.name} · {config.target.name} · {config.level.name}[/bold] → {destination(plan)}"
    )
    present = {name for name, key in plan.keys.items() if store.has(key)}
    table = Table(
        "node", "pass", "parameters", "inputs", "state", "why", box=None, pad_edge=False, header_style="bold"
    )
    for node in plan.graph:
        state = "[dim]cached[/dim]" if node.name in present else "[green]to run[/green]"
        inputs = ", ".join(node.inputs.values())
        table.add_row(node.name, node.pass_name, escape(_parameters(node)), inputs, state, node.why)
    for name, why in plan.off.items():
        table.add_row(f"[dim]{name}[/dim]", "", "", "", "[dim]off[/dim]", f"[dim]{why}[/dim]")
    console.print(table)
    console.print(_tree(plan))
    for hub_id, revision in plan.downloads:
        console.print(f"to download first: {hub_id} ({revision}); keys are known after that")


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
        branches[node.name] = branch.add(node.name if node.kind == "build" else f"[dim]{node.name}[/dim]")
    return root
