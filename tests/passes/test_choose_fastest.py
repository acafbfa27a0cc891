"""The choice: the winner's files and metadata, and what it was measured against."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_whisper import digests, exported
from openvino_models import converted

from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.passes.base import NoParams, execute
from pocket_opt.passes.choose_fastest import PASS


@pytest.mark.parametrize(("ratio", "winner"), [(0.5, "onnxruntime"), (1.0, "onnxruntime"), (1.5, "openvino")])
def test_the_faster_one_is_passed_on(tmp_path: Path, ratio: float, winner: str) -> None:
    (tmp_path / "race").mkdir()
    (tmp_path / "chosen").mkdir()
    metrics = {"ratio": Metric(ratio, "", 3, "rounds in turns")}
    told = {"first": "onnxruntime", "second": "openvino"}
    race = write_result(tmp_path / "race", "race", metrics, told).artifact
    inputs = {"first": exported(), "second": converted(), "race": race}
    outcome = execute(PASS, inputs, NoParams(), tmp_path / "chosen")
    expected = exported() if winner == "onnxruntime" else converted()
    assert digests(outcome.artifact) == digests(expected)
    assert outcome.artifact.metadata["runtime"] == winner
    assert outcome.artifact.metadata["chosen"] == {"runtime": winner, "race": {"ratio": ratio}}
    assert outcome.did["chosen"] == winner
