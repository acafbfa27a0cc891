"""How long loading, the mel front end, the encoder, the first token and each further token take.

Every repeat takes one window of synthetic audio through all phases with a fixed token sequence (see `forced`), so the
times of variants can be compared whatever they would have transcribed; with `decoding=beam` as many sequences side by
side. p50 and p95 are over repeats (per token: over all steps of all repeats); warm-up, repeats and threads stand in
each method. A model that is one graph from samples to text has a total only, in which it makes as many tokens (of its
own choice) and their text: its phases cannot be seen.
"""

from __future__ import annotations

import gc
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip, forced_clip, run_forced, run_whole
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import Plan, Sample, Timed, TimingParams, percentile, repeat
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import OneGraphRuntime, SpeechRuntime

RANKS = (50, 95)
LOAD_PLAN = Plan(warmup=0, min_repeats=1, max_repeats=5, max_seconds=3)
_PHASES = {
    "mel_ms": ("mel", "log-mel features of one window"),
    "encoder_ms": ("encoder", "encoder with cross-attention cache of one window"),
    "first_token_ms": ("prefill", "decoder over the prompt, and the first choice"),
    "per_token_ms": ("step", "decoder over one token, and the next choice"),
    "total_ms": ("total", "one window from samples to the last token"),
}


class Latency(Pass[TimingParams]):
    """Times each phase of the end-to-end path."""

    version = 4
    Params = TimingParams
    kind = "measure"
    tools = ("executorch", "numpy", "onnxruntime", "openvino", "torch", "transformers")
    exclusive = True
    limits = (
        "latency.load_cold_s",
        "latency.first_run_ms",
        *(f"latency.{name}_p{rank}" for name, rank in product(("load_s", *_PHASES, "rtf"), RANKS)),
    )

    def run(
        self, inputs: Inputs, params: TimingParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Open the model, time it and write p50 and p95 of each phase."""
        model = inputs["model"]
        clip = forced_clip(model.metadata["dims"], params.new_tokens)
        cold_s, timed = _time_phases(model, clip, params, progress)
        gc.collect()
        loads = repeat(lambda: {"load": [_open(model, params.threads)[1]]}, LOAD_PLAN)
        first_ms = (*timed.warmups, *timed.samples)[0]["total"][0]
        how = _conditions(timed, params, len(clip.tokens) + 1)
        window_s = float(model.metadata["dims"]["window_s"])
        metrics = {**_first_times(cold_s, first_ms), **_loads(loads), **_phases(timed, how, window_s)}
        details = {
            "beams": params.beams,
            "repeats": len(timed.samples),
            "warmup_runs": len(timed.warmups),
            "threads": params.threads,
            "left_out": [phase for phase, _ in _PHASES.values() if not timed.pooled(phase)],
        }
        return write_result(workdir, "latency", metrics, details)


def _time_phases(
    model: Artifact, clip: ForcedClip, params: TimingParams, progress: Progress
) -> tuple[float, Timed]:
    """Seconds of the first opening, and the times of all runs. The model is closed again on return."""
    runtime, cold_s = _open(model, params.threads)
    runs = 0

    def once() -> Sample:
        nonlocal runs
        runs += 1
        progress(min(runs, params.max_repeats), params.max_repeats, "repeats")
        if runtime.stepwise:
            return run_forced(runtime, clip, params.beams)
        return run_whole(cast("OneGraphRuntime", runtime), clip, params.beams)

    return cold_s, repeat(once, params.plan)


def _open(model: Artifact, threads: int) -> tuple[SpeechRuntime, float]:
    """The opened model, and the seconds that took."""
    from pocket_opt.runtimes import open_runtime

    start = time.perf_counter()
    runtime = open_runtime(model, threads=threads)
    return runtime, time.perf_counter() - start


def _conditions(timed: Timed, params: TimingParams, tokens: int) -> str:
    runs = f"{len(timed.warmups)} warm-up runs, {len(timed.samples)} repeats"
    return f"synthetic audio; {params.conditions(tokens)}; {runs}"


def _first_times(cold_s: float, first_ms: float) -> dict[str, Metric]:
    return {
        "load_cold_s": Metric(
            cold_s, "s", 1, "first opening in a fresh process, imports of the runtime included"
        ),
        "first_run_ms": Metric(
            first_ms, "ms", 1, "one window from samples to the last token, first run after loading"
        ),
    }


def _loads(loads: Timed) -> dict[str, Metric]:
    method = "opening the model's sessions, files in the page cache, imports done"
    return _percentiles("load_s", loads.pooled("load"), "s", method)


def _phases(timed: Timed, conditions: str, window_s: float) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for name, (phase, what) in _PHASES.items():
        if times := timed.pooled(phase):
            metrics |= _percentiles(name, times, "ms", f"{what}; {conditions}")
    factors = [value / 1000 / window_s for value in timed.pooled("total")]
    what = f"total time over the {window_s:g} s of audio in a window"
    return metrics | _percentiles("rtf", factors, "", f"{what}; {conditions}")


def _percentiles(name: str, values: list[float], unit: str, method: str) -> dict[str, Metric]:
    return {f"{name}_p{rank}": Metric(percentile(values, rank), unit, len(values), method) for rank in RANKS}


PASS = Latency()
