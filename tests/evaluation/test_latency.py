"""The latency table: complete, positive, consistent in itself, and said how."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.latency import PASS
from pocket_opt.evaluation.result import read_result
from pocket_opt.evaluation.timing import TimingParams
from pocket_opt.passes.base import execute

PHASES = ("load_s", "mel_ms", "encoder_ms", "first_token_ms", "per_token_ms", "total_ms", "rtf")


def test_every_phase_has_its_percentiles(exported: Artifact, tmp_path: Path) -> None:
    settings = TimingParams(new_tokens=8, max_repeats=5, threads=1)
    table = read_result(execute(PASS, {"model": exported}, settings, tmp_path).artifact)
    metrics = table["metrics"]
    assert table["group"] == "latency"
    wanted = {f"{phase}_{rank}" for phase in PHASES for rank in ("p50", "p95")}
    assert set(metrics) == wanted | {"load_cold_s", "first_run_ms"}
    for phase in PHASES:
        assert 0 < metrics[f"{phase}_p50"]["value"] <= metrics[f"{phase}_p95"]["value"]
    assert metrics["per_token_ms_p50"]["n"] == 5 * 7
    assert "5 repeats" in metrics["total_ms_p50"]["method"]
    assert "threads: 1" in metrics["total_ms_p50"]["method"]
    assert table["details"] == {"beams": 1, "repeats": 5, "warmup_runs": 3, "threads": 1, "left_out": []}


def test_the_total_is_made_of_its_parts(exported: Artifact, tmp_path: Path) -> None:
    settings = TimingParams(new_tokens=8, max_repeats=15, threads=1)
    found = read_result(execute(PASS, {"model": exported}, settings, tmp_path).artifact)["metrics"]
    parts = sum(found[f"{phase}_ms_p50"]["value"] for phase in ("mel", "encoder", "first_token"))
    total = found["total_ms_p50"]["value"]
    assert 0.5 * total < parts + 7 * found["per_token_ms_p50"]["value"] < 1.5 * total
    assert found["rtf_p50"]["value"] == total / 1000 / 4


@pytest.mark.parametrize("model", ["source", "exported", "converted"])
def test_beams_are_timed_as_they_are_decoded(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = TimingParams(new_tokens=4, beams=5, warmup=1, max_repeats=3, threads=1)
    table = read_result(execute(PASS, {"model": request.getfixturevalue(model)}, settings, tmp_path).artifact)
    assert table["details"]["beams"] == 5
    assert table["metrics"]["per_token_ms_p50"]["n"] == 3 * 3
    assert "each of 5 beams" in table["metrics"]["total_ms_p50"]["method"]
