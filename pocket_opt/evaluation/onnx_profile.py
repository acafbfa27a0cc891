"""Profiles an exported model: one ONNX Runtime session with profiling for each graph, taken through a forced clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip
from pocket_opt.evaluation.grouping import NodeTime, assign_modules
from pocket_opt.evaluation.ort_trace import Kernel, read_runs
from pocket_opt.evaluation.timing import Plan, Sample, repeat

Arrays = dict[str, NDArray[Any]]
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def profile_onnx(
    model: Artifact, clip: ForcedClip, plan: Plan, threads: int, scratch: Path
) -> tuple[list[NodeTime], int]:
    """Kernel times of passes of `clip`, and how many passes they are. `scratch` holds the raw traces."""
    sessions = {name: _open(model, name, threads, scratch) for name in ("mel", "encoder", "decoder")}
    timed = repeat(lambda: _run_clip(sessions, clip), plan)
    runs = {name: read_runs(Path(session.end_profiling())) for name, session in sessions.items()}
    steps = 1 + len(clip.tokens)
    decoder = runs["decoder"][len(timed.warmups) * steps :]
    times = [
        _node_times(run, phase) for phase in ("mel", "encoder") for run in runs[phase][len(timed.warmups) :]
    ]
    times += [_node_times(run, "step" if place % steps else "prefill") for place, run in enumerate(decoder)]
    return [time for run in times for time in run], len(timed.samples)


def _open(model: Artifact, component: str, threads: int, scratch: Path) -> Any:
    import onnxruntime as ort

    settings = model.metadata.get("session", {})
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = _optimization(settings.get("graph_optimization", "all"))
    for key, value in settings.get("entries", {}).items():
        options.add_session_config_entry(key, str(value))
    options.enable_profiling = True
    options.profile_file_prefix = str(scratch / component)
    return ort.InferenceSession(str(model.path(component)), options, providers=["CPUExecutionProvider"])


def _optimization(name: str) -> Any:
    import onnxruntime as ort

    level = ort.GraphOptimizationLevel
    return level.ORT_DISABLE_ALL if name == "disabled" else getattr(level, f"ORT_ENABLE_{name.upper()}")


def _run_clip(sessions: dict[str, Any], clip: ForcedClip) -> Sample:
    features = _run(sessions["mel"], {"audio": clip.audio[None]})["features"]
    encoded = _run(sessions["encoder"], {"features": features})
    decoder = sessions["decoder"]
    names = {port.name for port in decoder.get_inputs()}
    fed = {name: value for name, value in encoded.items() if name in names} | _empty_past(decoder)
    cached = any(name.startswith("past_") for name in names)
    tokens = clip.prompt
    for token in (None, *clip.tokens):
        if token is not None:
            new = np.array([[token]], np.int64)
            tokens = new if cached else np.concatenate([tokens, new], axis=1)
        outputs = _run(decoder, fed | {"tokens": tokens})
        fed |= {
            name.replace("present_", "past_"): value for name, value in outputs.items() if name != "logits"
        }
    return {}


def _run(session: Any, inputs: Arrays) -> Arrays:
    cast = {
        port.name: inputs[port.name].astype(_DTYPES[port.type], copy=False) for port in session.get_inputs()
    }
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, cast), strict=True))


def _empty_past(decoder: Any) -> Arrays:
    """Caches of length 0 for one clip."""
    return {
        port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), _DTYPES[port.type])
        for port in decoder.get_inputs()
        if port.name.startswith("past_")
    }


def _node_times(run: Sequence[Kernel], phase: str) -> list[NodeTime]:
    modules = assign_modules([(kernel.name, kernel.op_type) for kernel in run], phase)
    return [
        NodeTime(kernel.name, kernel.op_type, phase, module, kernel.microseconds)
        for kernel, module in zip(run, modules, strict=True)
    ]
