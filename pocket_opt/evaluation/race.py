"""Which of two models is faster here: both are opened in one process and take turns at the same clip.

Two latencies that were measured one after the other differ by what else the machine did; of two that alternate, each
round is a comparison of its own. The clip and its tokens are those of `latency` (see `forced`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.forced import forced_clip, run_forced
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import Sample, TimingParams, percentile, repeat
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent


@dataclass(frozen=True)
class RaceParams(TimingParams):
    """How to measure; a repeat is one turn of each model."""

    warmup: int = 2
    min_repeats: int = positive(5)
    max_repeats: int = positive(25)
    max_seconds: float = 12.0


class Race(Pass[RaceParams]):
    """Times two models in turns."""

    version = 1
    Params = RaceParams
    kind = "measure"
    tools = ("numpy", "onnxruntime", "openvino")
    inputs = ("first", "second")
    exclusive = True

    def requires(self, inputs: Inputs, params: RaceParams) -> None:  # noqa: ARG002
        """The models have different runtimes, by which they are told apart."""
        names = [inputs[edge].metadata["runtime"] for edge in self.inputs]
        if names[0] == names[1]:
            raise PocketOptError(
                f"both models run on {names[0]}",
                where="inputs of the node",
                fix="race models of different runtimes",
            )

    def run(self, inputs: Inputs, params: RaceParams, workdir: Path, progress: Progress = silent) -> Outcome:
        """Write `<runtime>_ms_p50` of each, and how much of the second's time the first takes (`ratio`)."""
        from pocket_opt.runtimes import open_runtime

        names = [str(inputs[edge].metadata["runtime"]) for edge in self.inputs]
        opened = [open_runtime(inputs[edge], threads=params.threads) for edge in self.inputs]
        clip = forced_clip(inputs["first"].metadata["dims"], params.new_tokens)
        runs = 0

        def once() -> Sample:
            nonlocal runs
            runs += 1
            progress(min(runs, params.max_repeats), params.max_repeats, "rounds")
            return {
                name: run_forced(runtime, clip, params.beams)["total"]
                for name, runtime in zip(names, opened, strict=True)
            }

        timed = repeat(once, params.plan)
        times = {name: timed.pooled(name) for name in names}
        ratios = [one / other for one, other in zip(*times.values(), strict=True)]
        rounds = len(timed.samples)
        method = (
            f"one window of synthetic audio from samples to the last token, {rounds} rounds in turns; "
            f"{params.conditions(len(clip.tokens) + 1)}"
        )
        metrics = {
            f"{name}_ms_p50": Metric(percentile(found, 50), "ms", rounds, method)
            for name, found in times.items()
        }
        what = f"median over rounds of the time of {names[0]} over that of {names[1]}; {method}"
        metrics["ratio"] = Metric(percentile(ratios, 50), "", rounds, what)
        return write_result(workdir, "race", metrics, {"first": names[0], "second": names[1]})


PASS = Race()
