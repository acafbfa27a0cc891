"""What is kept with a run in an experiment tracker: manifest, card, plan, tables of measurements, plots."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pocket_opt.bundle.publication import CARD, MANIFEST, MEASUREMENTS
from pocket_opt.report import flat
from pocket_opt.report.charts import charts
from pocket_opt.scratch import scratch

LARGEST_TABLE = 10_000_000
"""Bytes above which a measurement's table is left out."""


@contextmanager
def attachments(manifest: Mapping[str, Any], directory: Path) -> Iterator[Path]:
    """A temporary folder with copies of what belongs to the bundle in `directory`."""
    with scratch("tracking") as folder:
        for name in (MANIFEST, CARD):
            shutil.copyfile(directory / name, folder / name)
        (folder / "plan.txt").write_text(flat.plan_text(manifest), encoding="utf-8")
        for table in (directory / MEASUREMENTS).rglob("*.json*"):
            if table.stat().st_size <= LARGEST_TABLE:
                place = folder / table.relative_to(directory)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(table, place)
        (folder / "plots").mkdir()
        for name, chart in charts(manifest).items():
            (folder / "plots" / name).write_text(chart, encoding="utf-8")
        yield folder
