"""Adds to a number, or fails in the way it is told to."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fake_passes import note, read_number, write_number
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, silent

Failure = Literal["no", "refuse", "user", "raise", "crash", "late", "disk", "missing", "half"]


@dataclass(frozen=True)
class Params:
    """`amount`: what is added; `fail`: how; `sleep_s`: how long it takes."""

    amount: float = 1.0
    fail: Failure = neutral("no")
    sleep_s: float = neutral(0.0)


class FakeAdd(Pass[Params]):
    """See the module."""

    version = 2
    Params = Params

    def requires(self, inputs: Inputs, params: Params) -> None:
        if params.fail == "refuse":
            raise PocketOptError(
                "the number is odd", where="number.json", allowed="even numbers", fix="add 1"
            )

    def run(self, inputs: Inputs, params: Params, workdir: Path, progress: Progress = silent) -> Outcome:
        note("add")
        progress(1, 2, "halves")
        time.sleep(params.sleep_s)
        if params.fail != "no":
            _fail(params.fail, workdir)
        before = read_number(inputs["model"])
        return Outcome(write_number(workdir, before + params.amount), {"before": before})

    def ensures(self, inputs: Inputs, params: Params, outcome: Outcome) -> None:
        if params.fail == "late":
            raise PocketOptError("the sum is wrong", where="number.json")


def _fail(how: str, workdir: Path) -> None:
    if how == "user":
        raise UserError("the clip is damaged", where="clip.wav", fix="replace it")
    if how == "raise":
        raise ValueError("an unforeseen value")
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "disk":
        raise OSError(28, "No space left on device", str(workdir / "big"))
    if how == "missing":
        raise FileNotFoundError(2, "No such file", "model.onnx")
    if how == "half":
        (workdir / "half.bin").write_bytes(b"x" * 1000)
        os.kill(os.getpid(), signal.SIGKILL)


PASS = FakeAdd()
