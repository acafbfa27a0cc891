"""The metrics of a manifest: what was measured, and the sizes of the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.measures import BASELINE, SOURCE
from pocket_opt.passes import MEASUREMENTS
from pocket_opt.results import NodeRecord

Metrics = dict[str, dict[str, dict[str, Any]]]
"""group -> name -> `{"value", "unit", "n", "method"}`."""

GROUPS = ("quality", "size", "latency", "memory", "parity", "agreement", "profile", "race", "device")
MB = 1e6


def collect(measurements: Mapping[str, Mapping[str, Any]], size: Mapping[str, Any]) -> Metrics:
    """The metrics of the variant by group, in the usual order; measurements of the baseline are left out.

    A measurement that the user added may be of another model than the result: its group is the name of its node.
    """
    own = [
        {"group": result["group"] if name in MEASUREMENTS else name, "metrics": result["metrics"]}
        for name, result in measurements.items()
        if not name.startswith(BASELINE)
    ]
    return _merge([*own, {"group": "size", "metrics": size}])


def collect_baseline(measurements: Mapping[str, Mapping[str, Any]]) -> Metrics:
    """The metrics that were measured on the source model for comparison."""
    return _merge(result for name, result in measurements.items() if name.startswith(BASELINE))


def sizes(artifact: Artifact, nodes: Iterable[NodeRecord]) -> dict[str, dict[str, Any]]:
    """`total_mb`, one `<component>_mb` each, and `ratio_to_source` in % where the source is a node of the graph.

    MB are 10^6 bytes. A file that two components share is counted once in the total.
    """
    models, total = artifact.models, artifact.model_mb
    files = {file for part in models.values() for file in part.files}
    table = {"total_mb": _metric(total, "MB", len(files), "sum of the model files' bytes, each file once")}
    for name, part in models.items():
        table[f"{name}_mb"] = _metric(
            artifact.size(name) / MB, "MB", len(part.files), f"files of component {name}"
        )
    source = next((node.bytes_after for node in nodes if node.name == SOURCE and node.bytes_after), None)
    if source:
        table["ratio_to_source"] = _metric(
            100 * MB * total / source, "%", len(files), "model files against the source's"
        )
    return table


def _merge(results: Iterable[Mapping[str, Any]]) -> Metrics:
    found: Metrics = {}
    for result in results:
        found.setdefault(result["group"], {}).update({name: dict(m) for name, m in result["metrics"].items()})
    order = [*GROUPS, *sorted(set(found) - set(GROUPS))]
    return {group: found[group] for group in order if found.get(group)}


def _metric(value: float, unit: str, n: int, method: str) -> dict[str, Any]:
    return {"value": round(value, 6), "unit": unit, "n": n, "method": method}
