"""Times the binaries of a Qualcomm NPU on a device that Qualcomm AI Hub hosts: real latencies without a phone.

`device='aihub:NAME'` with a token of your own, which Qualcomm's client finds where it always does. The binaries of the
result are uploaded to Qualcomm and run there on random inputs, about a hundred times each; nothing is transcribed. With
`compile=true` Qualcomm compiles the graphs that they were made from as well, and those are timed beside them. Runs in
the toolchain `ai_hub`. Costs minutes, more where others wait for the same device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import percentile
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.scratch import scratch
from pocket_opt.toolchains import load_toolchain
from pocket_opt.worker import silent

TOOLCHAIN, GROUP = "ai_hub", "device"
TASK = "jobs:profile"
THEIRS = "theirs_"
"""Before the names of metrics of what Qualcomm compiled."""


@dataclass(frozen=True)
class OnAiHubParams:
    """Where, and what besides.

    Attributes:
        device: its name at AI Hub.
        compile: let AI Hub compile the same graphs, too.
        options: of its profile jobs, e.g. "--max_profiler_iterations 50".
        compile_options: of its compile jobs.
        job_timeout_s: seconds that all jobs together may take.
    """

    device: str = ""
    compile: bool = False
    options: str = ""
    compile_options: str = "--target_runtime qnn_context_binary --truncate_64bit_io"
    job_timeout_s: float = neutral(3300.0)


class OnAiHub(Pass[OnAiHubParams]):
    """Submits, waits, and writes down what the profiles say."""

    version = 1
    Params = OnAiHubParams
    kind = "measure"
    tools = ("numpy",)
    toolchain = TOOLCHAIN
    inputs = ("model", "graphs")
    limits = (f"{GROUP}.*_ms_p50", f"{GROUP}.*_ms_p95", f"{GROUP}.*_load_ms", f"{GROUP}.*_peak_mb")

    def requires(self, inputs: Inputs, params: OnAiHubParams) -> None:  # noqa: ARG002
        """The toolchain is there, and the binaries hold one graph each."""
        from pocket_opt.toolchains.environments import require

        about = inputs["model"].metadata.get("qnn")
        if about is None or about["share_weights"] or about["allow_fallback"]:
            raise PocketOptError(
                "Qualcomm AI Hub runs binaries of one graph each, all of it on the NPU",
                where="the result of this variant",
                allowed="share_weights=false, allow_fallback=false",
                fix="leave out device, or these parameters of nodes.compile",
            )
        require(load_toolchain(TOOLCHAIN))

    def run(
        self, inputs: Inputs, params: OnAiHubParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the metrics, and which jobs they are from."""
        model = inputs["model"]
        names: Sequence[str] = model.metadata["qnn"]["graphs"]
        binaries = {name: str(model.root / model.components[name].files[1]) for name in names}
        ends = time.monotonic() + params.job_timeout_s
        answer = _jobs(model, binaries, params, progress, ends=ends)
        metrics, jobs = _metrics(answer, ""), _ids(answer)
        if params.compile:
            with scratch("hub") as folder:
                graphs = {name: _packed(inputs["graphs"], name, folder) for name in names}
                theirs = _jobs(model, graphs, params, progress, ends=ends, compiled=True)
            metrics |= _metrics(theirs, THEIRS)
            jobs |= {f"{THEIRS}{name}": ids for name, ids in _ids(theirs).items()}
        device = answer["device"]
        told = ", ".join(f"{name} (job {ids['profile']})" for name, ids in jobs.items())
        details = {
            "device": device["name"],
            "build": device["os"],
            "timed": told,
            "jobs": jobs,
            "versions": dict(load_toolchain(TOOLCHAIN).pins[:1]),
        }
        return write_result(workdir, GROUP, metrics, details)


def _jobs(
    model: Artifact,
    models: Mapping[str, str],
    params: OnAiHubParams,
    progress: Progress,
    *,
    ends: float,
    compiled: bool = False,
) -> dict[str, Any]:
    """What AI Hub says of `models`, name -> path, before the clock (`time.monotonic`) says `ends`."""
    from pocket_opt.toolchains.environments import call

    payload = {
        "device": params.device,
        "htp_arch": model.metadata["qnn"]["htp_arch"],
        "models": models,
        "compile": compiled,
        "options": params.options,
        "compile_options": params.compile_options,
        "timeout_s": max(1.0, ends - time.monotonic()),
    }
    answer: dict[str, Any] = call(load_toolchain(TOOLCHAIN), TASK, payload, on_progress=progress).value
    return answer


def _packed(graphs: Artifact, name: str, folder: Path) -> str:
    """A graph as AI Hub takes it: one file, or a folder of it and its weights, which must end in .data."""
    part = graphs.components[name]
    if len(part.files) == 1:
        return str(graphs.path(name))
    import onnx_ir as ir

    from pocket_opt.onnx_graphs.files import load

    (folder / name).mkdir()
    ir.save(load(graphs.path(name)), folder / name / f"{name}.onnx", external_data=f"{name}.data")
    return str(folder / name)


def _ids(answer: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """graph -> its jobs."""
    return {
        name: {"profile": told["job"], **({"compile": told["compile_job"]} if told["compile_job"] else {})}
        for name, told in answer["graphs"].items()
    }


def _metrics(answer: Mapping[str, Any], prefix: str) -> dict[str, Metric]:
    metrics, layers = dict[str, Metric](), dict[str, int]()
    for name, told in answer["graphs"].items():
        times, source = told["times_us"], f"{answer['device']['name']}, AI Hub job {told['job']}"
        found = {f"ms_p{rank}": (percentile(times, rank) / 1e3, "ms", len(times)) for rank in (50, 95)}
        if told["load_us"]:
            found["load_ms"] = (told["load_us"] / 1e3, "ms", 1)
        if told["peak_bytes"]:
            found["peak_mb"] = (told["peak_bytes"] / 1e6, "MB", 1)
        metrics |= {
            f"{prefix}{name}_{what}": Metric(value, unit, count, f"one call of {name} on {source}")
            for what, (value, unit, count) in found.items()
        }
        layers = {
            unit: layers.get(unit, 0) + told["units"].get(unit, 0) for unit in {**layers, **told["units"]}
        }
    if total := sum(layers.values()):
        share = 100 * layers.get("NPU", 0) / total
        metrics[f"{prefix}npu_share"] = Metric(
            share, "%", total, "layers that the NPU computed on the device"
        )
    return metrics


PASS = OnAiHub()
