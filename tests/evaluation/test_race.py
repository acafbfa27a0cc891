"""A race: both runtimes take turns, and the numbers say who is faster by how much."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.race import PASS, RaceParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute

QUICK = RaceParams(new_tokens=4, warmup=1, min_repeats=3, max_repeats=3, threads=1)


def test_two_runtimes_take_turns(exported: Artifact, converted: Artifact, tmp_path: Path) -> None:
    found = read_result(execute(PASS, {"first": exported, "second": converted}, QUICK, tmp_path).artifact)
    metrics = {name: metric["value"] for name, metric in found["metrics"].items()}
    assert set(metrics) == {"onnxruntime_ms_p50", "openvino_ms_p50", "ratio"}
    assert min(metrics.values()) > 0
    assert found["metrics"]["ratio"]["n"] == 3
    assert found["details"] == {"first": "onnxruntime", "second": "openvino"}


def test_two_models_of_one_runtime_are_refused(exported: Artifact, tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="both models run on onnxruntime"):
        execute(PASS, {"first": exported, "second": exported}, QUICK, tmp_path)
