"""Writes a number: the root of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fake_passes import note, write_number
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, silent


@dataclass(frozen=True)
class Params:
    """`value`: the number; `threads`: changes nothing."""

    value: float = 1.0
    threads: int = neutral(0)


class FakeSource(Pass[Params]):
    """See the module."""

    version = 1
    Params = Params
    inputs = ()

    def run(self, inputs: Inputs, params: Params, workdir: Path, progress: Progress = silent) -> Outcome:
        note("source")
        return Outcome(write_number(workdir, params.value), {"threads": params.threads})


PASS = FakeSource()
