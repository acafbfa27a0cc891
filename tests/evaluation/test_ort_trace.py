"""A trace written by hand: runs apart, order of time, bodies of loops counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pocket_opt.evaluation.ort_trace import Kernel, read_runs


def run(start: int, duration: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


def kernel(name: str, op_type: str, start: int, duration: int) -> dict[str, Any]:
    args = {"op_name": op_type}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": args}


def read(tmp_path: Path, events: list[dict[str, Any]]) -> list[list[Kernel]]:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps(events))
    return read_runs(trace)


def test_kernels_belong_to_the_run_they_lie_in(tmp_path: Path) -> None:
    events = [
        kernel("b", "Add", 60, 5),
        kernel("a", "MatMul", 12, 30),
        run(10, 90),
        kernel("a", "MatMul", 112, 20),
        run(110, 50),
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9},
    ]
    assert read(tmp_path, events) == [
        [Kernel("a", "MatMul", 30), Kernel("b", "Add", 5)],
        [Kernel("a", "MatMul", 20)],
    ]


def test_a_loop_is_the_sum_of_its_body_and_fences_are_no_kernels(tmp_path: Path) -> None:
    fence = {**kernel("", "Add", 15, 1), "name": "body_fence_before"}
    events = [run(0, 100), kernel("loop", "Loop", 10, 80), kernel("body", "Add", 20, 70), fence]
    assert read(tmp_path, events) == [[Kernel("body", "Add", 70)]]
