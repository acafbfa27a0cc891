"""Reading the profile that ONNX Runtime writes: the kernels of each run, in order.

Format: Chrome trace events (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html). Times are
in microseconds; a run is one "model_run" event of category "Session", its kernels lie inside its span.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KERNEL_SUFFIX = "_kernel_time"
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""Their kernels contain those of their bodies, which are recorded too: counting both would count twice."""


@dataclass(frozen=True)
class Kernel:
    """One execution of one node. Its name is "" where the graph gives none."""

    name: str
    op_type: str
    microseconds: float


def read_runs(trace: Path) -> list[list[Kernel]]:
    """The kernels of every run of the session, runs and kernels in order of time."""
    events = json.loads(trace.read_text(encoding="utf-8"))
    spans = sorted(
        (e["ts"], e["ts"] + e["dur"]) for e in events if _is(e, "Session") and e["name"] == "model_run"
    )
    kernels = sorted((e for e in events if _is(e, "Node") and _counts(e)), key=lambda event: event["ts"])
    return [[_kernel(e) for e in kernels if start <= e["ts"] < end] for start, end in spans]


def _is(event: dict[str, Any], category: str) -> bool:
    return event.get("cat") == category


def _counts(event: dict[str, Any]) -> bool:
    return event["name"].endswith(_KERNEL_SUFFIX) and event["args"].get("op_name") not in _CONTROL_FLOW


def _kernel(event: dict[str, Any]) -> Kernel:
    name = event["name"].removesuffix(_KERNEL_SUFFIX)
    return Kernel(name, event["args"].get("op_name", ""), float(event["dur"]))
