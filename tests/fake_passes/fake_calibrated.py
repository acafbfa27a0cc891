"""Adds what it is told to, and asks for calibration audio where it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fake_passes import read_number, write_number
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, silent


@dataclass(frozen=True)
class Params(Calibrated):
    """`method`: "audio" is calibrated, "plain" is not."""

    method: str = "audio"


class FakeCalibrated(Pass[Params]):
    """See the module."""

    version = 1
    Params = Params

    def calibrates(self, params: Params) -> bool:
        return params.method == "audio"

    def run(self, inputs: Inputs, params: Params, workdir: Path, progress: Progress = silent) -> Outcome:
        return Outcome(
            write_number(workdir, read_number(inputs["model"])), {"clips": params.calibration_path}
        )


PASS = FakeCalibrated()
