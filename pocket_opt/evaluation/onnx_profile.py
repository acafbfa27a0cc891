"""Profiles an exported model: the runner's own sessions, with profiling, taken through a forced clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip, run_forced
from pocket_opt.evaluation.grouping import NodeTime, assign_modules
from pocket_opt.evaluation.ort_trace import Kernel, read_runs
from pocket_opt.evaluation.timing import Plan, repeat
from pocket_opt.models.whisper.runner.onnxruntime_backend import open_backend
from pocket_opt.models.whisper.runner.static_backend import TEXT


def profile_onnx(
    model: Artifact, clip: ForcedClip, plan: Plan, threads: int, scratch: Path
) -> tuple[list[NodeTime], int]:
    """Kernel times of passes of `clip`, and how many passes they are. `scratch` holds the raw traces."""
    backend = open_backend(model.root, model.describe(), threads, traces=scratch)
    timed = repeat(lambda: run_forced(backend, clip), plan)
    runs = {name: read_runs(trace) for name, trace in backend.end_traces().items()}
    warmups, passes = len(timed.warmups), len(timed.warmups) + len(timed.samples)
    times = [_node_times(run, phase) for phase in ("mel", "encoder") for run in runs[phase][warmups:]]
    for graph in (name for name in TEXT if name in runs):
        calls = len(runs[graph]) // passes
        prefill = calls - len(clip.tokens) if graph == "decoder" else calls
        times += [
            _node_times(run, "prefill" if place % calls < prefill else "step")
            for place, run in enumerate(runs[graph][warmups * calls :])
        ]
    return [time for run in times for time in run], len(timed.samples)


def _node_times(run: Sequence[Kernel], phase: str) -> list[NodeTime]:
    modules = assign_modules([(kernel.name, kernel.op_type) for kernel in run], phase)
    return [
        NodeTime(kernel.name, kernel.op_type, phase, module, kernel.microseconds)
        for kernel, module in zip(run, modules, strict=True)
    ]
