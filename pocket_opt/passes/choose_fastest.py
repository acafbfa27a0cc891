"""Keep the faster of two models of the same source, as a race between them on this machine has shown.

Applies behind two chains of passes, each for a runtime of its own. The key holds the race, and with it the machine: on
another one the choice is made anew. Costs nothing but the race. Quality is not weighed here: the budget judges what was
chosen, like every other variant.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pocket_opt.passes.base import Inputs, NoParams, Outcome, Pass, Progress
from pocket_opt.worker import silent


class ChooseFastest(Pass[NoParams]):
    """Passes one of its inputs on."""

    version = 1
    Params = NoParams
    inputs = ("first", "second", "race")

    def run(
        self,
        inputs: Inputs,
        params: NoParams,  # noqa: ARG002
        workdir: Path,
        progress: Progress = silent,
    ) -> Outcome:
        """Link the winner's files; its metadata says what was chosen, and against what."""
        table = json.loads(inputs["race"].path("result").read_text(encoding="utf-8"))
        metrics = {name: metric["value"] for name, metric in table["metrics"].items()}
        edge = "first" if metrics["ratio"] <= 1 else "second"
        chosen = inputs[edge].carry(workdir)
        told = {"runtime": table["details"][edge], "race": metrics}
        progress(1, 1, "choices")
        artifact = replace(chosen, metadata={**chosen.metadata, "chosen": told})
        return Outcome(artifact, {"chosen": told["runtime"], **metrics})


PASS = ChooseFastest()
