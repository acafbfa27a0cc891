"""Keep the faster of two models of the same source that is within the budget.

Applies behind two chains of passes, each for a runtime of its own, a race between them and, where there is evaluation
data, their quality and degradation. Limits on quality and on total size count; latency and memory are judged on what
was chosen, like those of every other variant. Of two models outside the budget the nearer one is kept, not the faster
one: a limit that cannot be held is better missed by little. The key holds the measurements, and with them the machine:
on another one the choice is made anew. Costs nothing but the measurements.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.budget import judge
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

CANDIDATES = ("first", "second")
MEASURED = ("quality", "degradation")
Verdict = Mapping[str, Any]
"""What `budget.judge` returns."""


@dataclass(frozen=True)
class ChooseFastestParams:
    """`budget`: metric -> upper limit, as the level has it."""

    budget: Mapping[str, float] = field(default_factory=dict, metadata={"instead": "budget"})


class ChooseFastest(Pass[ChooseFastestParams]):
    """Passes one of its inputs on."""

    version = 2
    Params = ChooseFastestParams
    optional = tuple(f"{edge}_{name}" for edge in CANDIDATES for name in MEASURED)
    inputs = (*CANDIDATES, "race", *optional)

    def run(
        self, inputs: Inputs, params: ChooseFastestParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Link the winner's files; its metadata says what was chosen, why, and against what."""
        race = _table(inputs["race"])
        runtimes = {str(race["details"][edge]): edge for edge in CANDIDATES}
        numbers = {name: metric["value"] for name, metric in race["metrics"].items()}
        verdicts = {
            runtime: judge(params.budget, _metrics(inputs, edge)) for runtime, edge in runtimes.items()
        }
        winner, why = choice(float(numbers["ratio"]), verdicts)
        chosen = inputs[runtimes[winner]].carry(workdir)
        told = {"runtime": winner, "why": why, "race": numbers, "budget": verdicts}
        progress(1, 1, "choices")
        artifact = replace(chosen, metadata={**chosen.metadata, "chosen": told})
        return Outcome(artifact, {"chosen": winner, "why": why, **numbers})


def choice(ratio: float, verdicts: Mapping[str, Verdict]) -> tuple[str, str]:
    """The runtime to keep, and why.

    Args:
        ratio: time of the first over that of the second.
        verdicts: runtime -> how its model keeps the budget; the first, then the second.
    """
    first, second = verdicts
    faster, slower = (first, second) if ratio <= 1 else (second, first)
    lead = f"it takes {min(ratio, 1 / ratio):.2f} of the time of {slower}"
    outside = [name for name in (faster, slower) if verdicts[name]["verdict"] == "over_budget"]
    if len(outside) == len(verdicts):
        nearer, other = sorted(outside, key=lambda name: _excess(verdicts[name]))
        missed = f"{_broken(verdicts[nearer])}; {other}: {_broken(verdicts[other])}"
        return nearer, f"both are outside the budget, and it is nearer ({missed})"
    if outside == [faster]:
        said = f"{faster} is faster, but outside the budget ({_broken(verdicts[faster])})"
        return slower, f"{said}; {slower} takes {max(ratio, 1 / ratio):.2f} times as long"
    if outside:
        return faster, f"{lead}, which is outside the budget ({_broken(verdicts[slower])})"
    checked = all(verdict["verdict"] == "within" for verdict in verdicts.values())
    return faster, f"{lead}; " + (
        "both are within the budget" if checked else "no budget was checked before the choice"
    )


def _excess(verdict: Verdict) -> float:
    """The worst value as a multiple of its limit; infinite beyond a limit of 0."""
    over = [limit for limit in verdict["limits"] if limit["verdict"] == "over_budget"]
    return max(limit["value"] / limit["limit"] if limit["limit"] > 0 else math.inf for limit in over)


def _broken(verdict: Verdict) -> str:
    over = [limit for limit in verdict["limits"] if limit["verdict"] == "over_budget"]
    return ", ".join(f"{limit['metric']} {limit['value']:.3g} over {limit['limit']:g}" for limit in over)


def _metrics(inputs: Inputs, edge: str) -> dict[str, dict[str, Any]]:
    """What is known of a candidate, in the form in which a budget is judged."""
    names = [f"{edge}_{name}" for name in MEASURED]
    quality = {
        name: metric
        for measured in names
        if measured in inputs
        for name, metric in _table(inputs[measured])["metrics"].items()
    }
    return {"quality": quality, "size": {"total_mb": {"value": inputs[edge].model_mb}}}


def _table(measurement: Artifact) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(measurement.path("result").read_text(encoding="utf-8"))
    return table


PASS = ChooseFastest()
