"""Where the time of a variant goes: by phase, by module of the network, by operator type, and the ten slowest nodes.

One window of synthetic audio with a fixed token sequence (see `forced`) goes through mel front end, encoder, prefill
and steps. Variants are profiled by the kernels of their runtime, the source model by its modules; all come out in the
same groups, so that tables of levels can be laid side by side. Profiling costs time itself: read shares
here, not times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.forced import ForcedClip, forced_clip
from pocket_opt.evaluation.grouping import PHASES, NodeTime, accumulate, shares, totals
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import Plan
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

SLOWEST = 10
TRANSFORMERS = "transformers"
OPENVINO = "openvino"
EXECUTORCH = "executorch"
RUNTIMES = (TRANSFORMERS, "onnxruntime", OPENVINO, EXECUTORCH)


@dataclass(frozen=True)
class ProfileParams:
    """How to measure.

    Attributes:
        new_tokens: tokens fed for the clip; with more, the share of steps grows. None: 4 for each second of the window.
        repeats: most passes; fewer where they take longer than `max_seconds`, at least one.
        threads: of the runtime; 0 is its default.
    """

    new_tokens: int | None = positive(None)
    repeats: int = positive(5)
    max_seconds: float = 8.0
    threads: int = 0


class Profile(Pass[ProfileParams]):
    """Sums kernel or module times over a few passes and groups them."""

    version = 2
    Params = ProfileParams
    kind = "measure"
    tools = ("executorch", "numpy", "onnxruntime", "openvino", "torch", "transformers")
    exclusive = True

    def requires(self, inputs: Inputs, params: ProfileParams) -> None:  # noqa: ARG002
        """Refuse runtimes that this measurement cannot look into."""
        runtime = inputs["model"].metadata["runtime"]
        if runtime not in RUNTIMES:
            raise PocketOptError(
                f"there is no profiler for the runtime '{runtime}'",
                where="node profile",
                allowed=", ".join(RUNTIMES),
                fix="switch the node off for this target",
            )

    def run(
        self, inputs: Inputs, params: ProfileParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `phase_<phase>` and `share_<module>`, and the tables as details."""
        model = inputs["model"]
        clip = forced_clip(model.metadata["dims"], params.new_tokens)
        measured = _measure(model, clip, params, workdir)
        progress(measured.passes, measured.passes, "passes")
        method = (
            f"share of the {measured.unit} times (median call times number of calls) in {measured.passes} passes over "
            f"one window of synthetic audio with {len(clip.tokens) + 1} forced tokens; threads: "
            f"{params.threads or 'the default of the runtime'}"
        )
        found = {f"phase_{name}": share for name, share in shares(measured.times, "phase").items()}
        found |= {f"share_{name}": share for name, share in shares(measured.times, "module").items()}
        metrics = {name: Metric(share, "%", measured.passes, method) for name, share in found.items()}
        return write_result(workdir, "profile", metrics, tables(measured))


@dataclass(frozen=True)
class Measured:
    """What a profiler found.

    Attributes:
        times: one entry per phase and node, slowest first, over all passes.
        operators: microseconds a pass by operator type.
        passes: over the clip.
        unit: what the nodes are: "kernel" or "module".
    """

    times: Sequence[NodeTime]
    operators: Mapping[str, float]
    passes: int
    unit: str


def tables(measured: Measured) -> dict[str, Any]:
    """The details: milliseconds a pass by phase, by phase and module, by operator type; the slowest nodes."""
    passes = measured.passes
    by_phase = {phase: [time for time in measured.times if time.phase == phase] for phase in PHASES}
    modules = {phase: totals(part, "module") for phase, part in by_phase.items()}
    return {
        "nodes_are": measured.unit + "s",
        "by_phase_ms": _milliseconds(totals(measured.times, "phase"), passes),
        "by_phase_and_module_ms": {phase: _milliseconds(part, passes) for phase, part in modules.items()},
        "by_operator_type_ms": _milliseconds(measured.operators, 1),
        "slowest_nodes": [_row(time, measured) for time in measured.times[:SLOWEST]],
    }


def _measure(model: Artifact, clip: ForcedClip, params: ProfileParams, workdir: Path) -> Measured:
    plan = Plan(warmup=1, min_repeats=1, max_repeats=params.repeats, max_seconds=params.max_seconds)
    if model.metadata["runtime"] == TRANSFORMERS:
        from pocket_opt.evaluation.torch_profile import profile_torch

        calls, operators, passes = profile_torch(model, clip, plan, params.threads)
        return Measured(accumulate(calls), operators, passes, "module")
    if model.metadata["runtime"] == OPENVINO:
        from pocket_opt.evaluation.openvino_profile import profile_openvino

        calls, passes = profile_openvino(model, clip, plan, params.threads)
    elif model.metadata["runtime"] == EXECUTORCH:
        from pocket_opt.evaluation.executorch_profile import profile_executorch

        with tempfile.TemporaryDirectory(dir=workdir) as scratch:
            calls, passes = profile_executorch(model, clip, plan, params.threads, Path(scratch))
    else:
        from pocket_opt.evaluation.onnx_profile import profile_onnx

        with tempfile.TemporaryDirectory(dir=workdir) as scratch:
            calls, passes = profile_onnx(model, clip, plan, params.threads, Path(scratch))
    times = accumulate(calls)
    by_type = {name: spent / passes for name, spent in totals(times, "op_type").items()}
    return Measured(times, by_type, passes, "kernel")


def _row(time: NodeTime, measured: Measured) -> dict[str, Any]:
    whole = sum(other.microseconds for other in measured.times)
    return {
        "name": time.name,
        "operator": time.op_type,
        "phase": time.phase,
        "module": time.module,
        "calls": time.calls,
        "ms": round(time.microseconds / 1000 / measured.passes, 4),
        "share": round(100 * time.microseconds / whole, 2),
    }


def _milliseconds(table: Mapping[str, float], passes: int) -> dict[str, float]:
    ordered = sorted(table.items(), key=lambda item: -item[1])
    return {name: round(spent / 1000 / passes, 4) for name, spent in ordered}


PASS = Profile()
