"""The report as one self-contained page: a sortable table and a Pareto plot; nothing is loaded from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocket_opt.home import write_atomically
from pocket_opt.report.rows import COLUMNS, Row, make_rows
from pocket_opt.report.table import csv_text
from pocket_opt.results import FailureRecord

HERE = Path(__file__).parent
HTML, CSV = "report.html", "report.csv"


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written."""

    html: Path
    csv: Path


def write_report(
    manifests: Iterable[Mapping[str, Any]], failures: Sequence[FailureRecord], directory: Path
) -> ReportFiles:
    """Write `report.html` and `report.csv` into `directory`, replacing older ones in one step each.

    Raises:
        OSError: the directory cannot be written.
    """
    tables = list(manifests)
    directory.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(directory / HTML, directory / CSV)
    write_atomically(files.csv, csv_text(tables, failures))
    write_atomically(files.html, page(tables, failures))
    return files


def page(manifests: Iterable[Mapping[str, Any]], failures: Sequence[FailureRecord] = ()) -> str:
    """The page as text, its data, style and program inside."""
    rows = make_rows(manifests)
    data = {
        "columns": [
            {key: value for key, value in asdict(column).items() if key != "source"}
            for column in COLUMNS
            if any(column.key in row.values for row in rows)
        ],
        "rows": [_row(row) for row in rows],
        "failures": [asdict(failure) for failure in failures],
    }
    text = (HERE / "page.html").read_text(encoding="utf-8")
    parts = {
        "/*STYLE*/": (HERE / "page.css").read_text(encoding="utf-8"),
        "/*PROGRAM*/": (HERE / "page.js").read_text(encoding="utf-8"),
        "/*DATA*/": _embed(data),
    }
    for mark, content in parts.items():
        text = text.replace(mark, content)
    return text


def _row(row: Row) -> dict[str, Any]:
    manifest = row.manifest
    return {
        "recipe": row.recipe,
        "target": row.target,
        "level": row.level,
        "rank": row.level_rank,
        "overrides": " ".join(row.overrides),
        "verdict": row.verdict,
        "limits": manifest["budget"]["limits"],
        "verified": f"{row.verified}, {row.scope}",
        "labels": row.labels,
        "choice": row.choice,
        "values": row.values,
        "metrics": manifest["metrics"],
        "passes": [
            {
                "name": node["name"],
                "pass": node["pass"],
                "seconds": node["seconds"],
                "bytes": node["bytes_after"],
            }
            for node in manifest["nodes"]
            if node["kind"] == "build"
        ],
        "host": f"{manifest['host']['cpu']}, {manifest['host']['cores']} cores",
        "created": manifest["created"],
        "license": manifest["license"],
        "build": manifest["identities"]["build"][:12],
    }


def _embed(data: Any) -> str:
    """JSON that is safe inside a script element: no `<`, so nothing in the data can close the element."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
