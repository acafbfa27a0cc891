"""What a person sees while a variant runs: a line a node, a bar where a loop takes long."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pocket_opt.graph import Node
from pocket_opt.planner import Plan
from pocket_opt.results import NodeRecord

PLAIN_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def title(plan: Plan) -> str:
    """What a variant is called, as markup of rich."""
    config = plan.config
    return f"[bold]{escape(f'{config.recipe.name} · {config.target.name} · {config.level.name}')}[/bold]"


class NodeLines:
    """An Observer that prints each node when it is done and, on a terminal, a bar while it runs."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self.cached = self.computed = 0
        self._start = time.perf_counter()

    def started(self, node: Node) -> None:
        """Show that the node runs (on a terminal only)."""
        if not sys.stdout.isatty():
            return
        columns = (
            TextColumn("  [cyan]{task.description:<20}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._bar.add_task(escape(node.name), total=None, unit="")
        self._bar.start()

    def progress(self, done: int, total: int, unit: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, unit=unit)

    def finished(self, record: NodeRecord) -> None:
        """Print the node's line."""
        self.close()
        cached = record.status == "cached"
        self.cached, self.computed = self.cached + cached, self.computed + (not cached)
        how = "[dim]cached[/dim]    " if cached else f"[green]{record.seconds:6.1f} s[/green]  "
        console.print(f"  {escape(f'{record.name:<20}')} {how}  {_sizes(record)}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def summary(self) -> str:
        """One line about the whole graph."""
        if not self.computed:
            return f"all {self.cached} nodes were cached, {time.perf_counter() - self._start:.1f} s"
        return f"{self.computed} nodes run, {self.cached} cached, {time.perf_counter() - self._start:.1f} s"


def _sizes(record: NodeRecord) -> str:
    if record.kind == "measure":
        return ""
    after = f"{record.bytes_after / 1e6:.2f} MB"
    return f"{record.bytes_before / 1e6:.2f} → {after}" if record.bytes_before else after
