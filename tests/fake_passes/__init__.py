"""Passes that cost nothing, for tests of planner and engine: numbers in a JSON file instead of models."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pocket_opt.artifact import Artifact, Component


def note(name: str) -> None:
    """Append `name` to the log of runs; one write of few bytes is atomic."""
    with Path(os.environ["FAKE_PASSES_LOG"]).open("a") as log:
        log.write(f"{name}\n")


def write_number(workdir: Path, value: float) -> Artifact:
    """An artifact whose component `model` holds one number."""
    (workdir / "number.json").write_text(json.dumps(value))
    return Artifact(workdir, {"model": Component("json", ("number.json",))}, {"family": "fake"})


def read_number(artifact: Artifact) -> float:
    """The number in an artifact."""
    return float(json.loads(artifact.path("model").read_text()))


def write_result(workdir: Path, value: float) -> Artifact:
    """The artifact of a measurement."""
    table = {
        "group": "quality",
        "metrics": {"number": {"value": value, "unit": "", "n": 1, "method": "read"}},
    }
    (workdir / "result.json").write_text(json.dumps(table))
    return Artifact(workdir, {"result": Component("json", ("result.json",))})
