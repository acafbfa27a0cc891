"""Reads the number: a measurement that wants the machine for itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fake_passes import note, read_number, write_result
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, silent


@dataclass(frozen=True)
class Params:
    """`batch_size`: something that measurements are given; `unit`: something only this one has."""

    batch_size: int = 1
    unit: str = ""


class FakeNumber(Pass[Params]):
    """See the module."""

    version = 1
    Params = Params
    kind = "measure"
    exclusive = True

    def run(self, inputs: Inputs, params: Params, workdir: Path, progress: Progress = silent) -> Outcome:
        note("number")
        value = read_number(inputs["model"])
        return Outcome(write_result(workdir, value), {"number": value})


PASS = FakeNumber()
