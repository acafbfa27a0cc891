"""The comparison on the console (rich) and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pocket_opt.report.rows import COLUMNS, Row, make_rows
from pocket_opt.results import FailureRecord

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SHOWN = ("size_mb", "runtime_mb", "size_percent", "wer", "wer_delta", "rtf", "per_token_ms", "peak_mb")
"""Columns of the console's table; CSV and page have all."""

TITLES = {
    "size_mb": "MB",
    "runtime_mb": "runtime",
    "size_percent": "% of NONE",
    "wer": "WER %",
    "wer_delta": "change",
    "rtf": "RTF",
    "per_token_ms": "ms/token",
    "peak_mb": "peak MB",
}
VERDICTS = {
    "within": "[green]within[/]",
    "over_budget": "[bold red]over budget[/]",
    "no_budget": "[dim]no budget[/]",
}
NAMES = ("recipe", "target", "level")
EXPLANATION = (
    "change: WER against NONE in points; RTF: time for a window of 4 tokens a second over its length; "
    "peak MB: a fresh process; runtime: MB of the libraries installed here that run it, in no other column"
)


def render_table(manifests: Iterable[Mapping[str, Any]], failures: Sequence[FailureRecord] = ()) -> Group:
    """What is printed after a run: the table, what must be said about its numbers, and the failures."""
    from rich.console import Group
    from rich.text import Text

    rows = make_rows(manifests)
    parts: list[Any] = []
    if rows:
        parts.append(comparison(rows))
        notes = [EXPLANATION, *(f"{label}: {', '.join(names)}" for label, names in _labels(rows).items())]
        notes += [f"{row.recipe} {row.level}: {row.choice}" for row in rows if row.choice]
        parts += [Text(note, style="dim") for note in notes]
    for failure in failures:
        parts.append(Text(f"failed: {failure.recipe} · {failure.target} · {failure.level}", style="bold red"))
        parts.append(Text(f"  {failure.reason}".replace("\n", "\n  ")))
    return Group(*parts)


def comparison(rows: Sequence[Row]) -> Table:
    """The table itself; columns without any value and names that are all the same are left out."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    names = [name for name in NAMES if name == "level" or len({getattr(row, name) for row in rows}) > 1]
    columns = [
        column for column in COLUMNS if column.key in SHOWN and any(column.key in row.values for row in rows)
    ]
    has_overrides = any(row.overrides for row in rows)
    heading = " · ".join(str(getattr(rows[0], name)) for name in NAMES if name not in names)
    table = Table(title=escape(heading) or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    if has_overrides:
        table.add_column("set")
    for column in columns:
        table.add_column(TITLES[column.key], justify="right", no_wrap=True)
    for title in ("verified", "budget"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        numbers = [number(row.values.get(column.key), column.digits, column.key) for column in columns]
        cells = [str(getattr(row, name)) for name in names]
        if has_overrides:
            cells.append(" ".join(row.overrides))
        table.add_row(*map(escape, cells), *numbers, row.verified, VERDICTS[row.verdict])
    return table


def number(value: float | None, digits: int, key: str = "") -> str:
    """A number as the tables show it; nothing where it was not measured. Changes carry their sign."""
    if value is None:
        return ""
    return f"{value:+.{digits}f}" if key.endswith("_delta") else f"{value:.{digits}f}"


def csv_text(manifests: Iterable[Mapping[str, Any]], failures: Sequence[FailureRecord] = ()) -> str:
    """One line a variant: names, the compared columns, then every metric as `group/name`; failures at the end."""
    rows = make_rows(manifests)
    metrics = sorted({name for row in rows for name, _ in _metrics(row)})
    columns = [column.key for column in COLUMNS]
    header = [
        *NAMES,
        "level_rank",
        "overrides",
        "status",
        "verified",
        "scope",
        "budget",
        "labels",
        *columns,
        *metrics,
    ]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*header, "reason"], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {**_names(row), "status": "finished", **_facts(row), **row.values, **dict(_metrics(row))}
        )
    for failure in failures:
        writer.writerow({**_names(failure), "status": "failed", "reason": failure.reason})
    return stream.getvalue()


def _names(row: Row | FailureRecord) -> dict[str, Any]:
    names = {name: getattr(row, name) for name in (*NAMES, "level_rank")}
    return {**names, "overrides": " ".join(row.overrides)}


def _facts(row: Row) -> dict[str, str]:
    return {
        "verified": row.verified,
        "scope": row.scope,
        "budget": row.verdict,
        "labels": "; ".join(row.labels),
    }


def _metrics(row: Row) -> Iterator[tuple[str, float]]:
    for group, table in row.manifest["metrics"].items():
        for name, metric in table.items():
            yield f"{group}/{name}", metric["value"]


def _labels(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Each label and the recipes that carry it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for label in row.labels:
            names = found.setdefault(label, [])
            if row.recipe not in names:
                names.append(row.recipe)
    return found
