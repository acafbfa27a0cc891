"""Profiles an OpenVINO model: the runner's own backend, compiled with counters, taken through a forced clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip
from pocket_opt.evaluation.grouping import NodeTime, assign_modules
from pocket_opt.evaluation.timing import Plan, Sample, repeat
from pocket_opt.models.whisper.runner.openvino_backend import OpenVinoBackend

COUNTERS = {"PERF_COUNT": True}


def profile_openvino(
    model: Artifact, clip: ForcedClip, plan: Plan, threads: int
) -> tuple[list[NodeTime], int]:
    """Kernel times of passes of `clip`, and how many passes they are."""
    backend = OpenVinoBackend(model.root, model.describe(), threads, COUNTERS)
    passes: list[list[NodeTime]] = []

    def once() -> Sample:
        passes.append(_run_clip(backend, clip))
        return {}

    timed = repeat(once, plan)
    kept = passes[len(timed.warmups) :]
    return [time for times in kept for time in times], len(timed.samples)


def _run_clip(backend: OpenVinoBackend, clip: ForcedClip) -> list[NodeTime]:
    features = backend.features(clip.audio[None])
    times = _node_times(backend.last, "mel")
    state = backend.encode(features)
    times += _node_times(backend.last, "encoder")
    _, state = backend.decode(clip.prompt, state)
    times += _node_times(backend.last, "prefill")
    for token in clip.tokens:
        _, state = backend.decode(np.array([[token]], np.int64), state)
        times += _node_times(backend.last, "step")
    return times


def _node_times(request: Any, phase: str) -> list[NodeTime]:
    """The nodes that the last call of `request` executed; those that the plugin folded away took no time."""
    ran = [info for info in request.profiling_info if info.status == info.Status.EXECUTED]
    modules = assign_modules([(info.node_name, info.node_type) for info in ran], phase)
    return [
        NodeTime(info.node_name, info.node_type, phase, module, info.real_time.total_seconds() * 1e6)
        for info, module in zip(ran, modules, strict=True)
    ]
