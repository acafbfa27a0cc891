"""The difference of two numbers: a pass with two inputs."""

from __future__ import annotations

from pathlib import Path

from fake_passes import note, read_number, write_number
from pocket_opt.passes.base import Inputs, NoParams, Outcome, Pass, Progress, silent


class FakeDifference(Pass[NoParams]):
    """See the module."""

    version = 1
    inputs = ("model", "other")

    def run(self, inputs: Inputs, params: NoParams, workdir: Path, progress: Progress = silent) -> Outcome:
        note("difference")
        return Outcome(write_number(workdir, read_number(inputs["model"]) - read_number(inputs["other"])), {})


PASS = FakeDifference()
