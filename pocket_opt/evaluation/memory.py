"""Peak resident memory by length of audio, each length in a fresh process of its own.

A process keeps what its largest moment needed, so lengths measured one after the other in one process would all show
the largest. Nothing is subtracted: interpreter and runtime libraries are part of what a user's device must hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

MEGABYTE = 1e6
PROBE = "pocket_opt.evaluation.memory_probe:probe"


@dataclass(frozen=True)
class MemoryParams:
    """How to measure.

    Attributes:
        seconds: lengths of audio; none given: 1 s, one window of the model, two windows.
        new_tokens: most tokens generated in a window.
        beams: sequences followed side by side.
        threads: of the runtime; 0 is its default.
    """

    seconds: tuple[float, ...] = ()
    new_tokens: int = positive(32)
    beams: int = positive(1)
    threads: int = 0


class Memory(Pass[MemoryParams]):
    """Starts a process for each length of audio and reads its peak."""

    version = 1
    Params = MemoryParams
    kind = "measure"
    tools = ("executorch", "numpy", "onnxruntime", "openvino", "torch", "transformers")
    exclusive = True
    limits = ("memory.peak_mb", "memory.peak_mb_*s")

    def run(
        self, inputs: Inputs, params: MemoryParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `peak_mb` (the largest) and `peak_mb_<seconds>s`."""
        model = inputs["model"]
        lengths = sorted(params.seconds or _default_lengths(model))
        peaks = {}
        for done, seconds in enumerate(lengths, start=1):
            peaks[seconds] = measure_peak(model, seconds, params)
            progress(done, len(lengths), "processes")
        method = (
            "peak resident set of a fresh process that loads the model and transcribes synthetic audio of {}"
        )
        metrics = {
            f"peak_mb_{seconds:g}s": Metric(peak, "MB", 1, method.format(f"{seconds:g} s"))
            for seconds, peak in peaks.items()
        }
        metrics["peak_mb"] = Metric(
            max(peaks.values()), "MB", len(peaks), method.format("each length; the largest")
        )
        return write_result(
            workdir,
            "memory",
            metrics,
            {"threads": params.threads, "new_tokens": params.new_tokens, "beams": params.beams},
        )


def measure_peak(model: Artifact, seconds: float, params: MemoryParams) -> float:
    """Peak resident memory, in MB, of a fresh process that transcribes `seconds` of audio."""
    from pocket_opt import worker

    payload = {
        "root": str(model.root),
        "seconds": seconds,
        "new_tokens": params.new_tokens,
        "beams": params.beams,
        "threads": params.threads,
    }
    return int(worker.call(PROBE, payload).value) / MEGABYTE


def _default_lengths(model: Artifact) -> tuple[float, ...]:
    window = float(model.metadata["dims"]["window_s"])
    return (1.0, window, 2 * window)


PASS = Memory()
