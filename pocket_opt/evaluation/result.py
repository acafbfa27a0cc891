"""The one form in which every measurement is written: `result.json` with a group, metrics and details.

A value that could not be had is left out, never written as 0 or NaN, so a reader needs no special cases.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Outcome

COMPONENT = "result"
FILE = "result.json"


@dataclass(frozen=True)
class Metric:
    """One number with what is needed to read it.

    Attributes:
        unit: "%", "points", "ms", "s", "MB", "dB", "clips", "tokens", or "" for a ratio.
        n: how many observations (clips, tokens, repeats) the value rests on.
        method: how it was obtained, in one sentence.
    """

    value: float
    unit: str
    n: int
    method: str


def write_result(
    workdir: Path,
    group: str,
    metrics: Mapping[str, Metric],
    details: Mapping[str, Any],
    files: tuple[str, ...] = (),
) -> Outcome:
    """Write `workdir/result.json`; the outcome holds one component `result` with it and the extra `files`.

    Raises:
        PocketOptError: a metric is not a finite number.
    """
    bad = {name: metric.value for name, metric in metrics.items() if not math.isfinite(metric.value)}
    if bad:
        raise PocketOptError(
            "a measured value is not a finite number",
            where=f"group {group}: {', '.join(f'{name} = {value}' for name, value in bad.items())}",
            fix="look at the node's inputs: the model probably returns NaN or infinity",
        )
    table = {
        "group": group,
        "metrics": {name: asdict(metric) for name, metric in metrics.items()},
        "details": dict(details),
    }
    (workdir / FILE).write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    artifact = Artifact(root=workdir, components={COMPONENT: Component("json", (FILE, *files))})
    did = {"metrics": len(metrics), **{name: metric.value for name, metric in metrics.items()}}
    return Outcome(artifact, did)


def read_result(measurement: Artifact) -> dict[str, Any]:
    """The table that `write_result` wrote."""
    table: dict[str, Any] = json.loads(measurement.path(COMPONENT).read_text(encoding="utf-8"))
    return table
