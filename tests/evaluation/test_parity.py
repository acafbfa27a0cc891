"""Numerical distance: none to itself, hardly any after export, plain after damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.parity import PASS, ParityParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def measure(model: Artifact, source: Artifact, data: Path, workdir: Path) -> tuple[dict[str, float], Any]:
    settings = ParityParams(data_path=str(data), clips=3, max_new_tokens=8, threads=1)
    table = read_result(execute(PASS, {"model": model, "source": source}, settings, workdir).artifact)
    return {name: metric["value"] for name, metric in table["metrics"].items()}, table["details"]


def test_the_source_against_itself_is_identical(source: Artifact, data: Path, tmp_path: Path) -> None:
    found, details = measure(source, source, data, tmp_path)
    assert found["mel_max_error"] == 0
    assert found["encoder_cosine"] == pytest.approx(1)
    assert found["encoder_sqnr_db"] == found["logits_sqnr_db"] == 200
    assert found["top1_agreement"] == found["batch_top1_agreement"] == 100
    assert found["batch_logits_sqnr_db"] > 80
    assert details == {"left_out": []}


def test_an_export_agrees_to_rounding(
    source: Artifact, exported: Artifact, data: Path, tmp_path: Path
) -> None:
    found, _ = measure(exported, source, data, tmp_path)
    assert found["mel_max_error"] < 1e-4
    for name in ("encoder_sqnr_db", "logits_sqnr_db", "batch_logits_sqnr_db"):
        assert found[name] > 60
    assert found["top1_agreement"] == found["batch_top1_agreement"] == 100


def test_three_bit_weights_show(source: Artifact, wrecked: Artifact, data: Path, tmp_path: Path) -> None:
    found, _ = measure(wrecked, source, data, tmp_path)
    assert found["logits_sqnr_db"] < 20
    assert found["encoder_sqnr_db"] < 20
    assert found["top1_agreement"] < 90


def test_another_width_leaves_the_encoder_out_and_says_so(
    source: Artifact, data: Path, tmp_path: Path
) -> None:
    student = tiny_checkpoint(tmp_path / "student", d_model=32, encoder_layers=1, decoder_layers=1)
    out = tmp_path / "out"
    out.mkdir()
    found, details = measure(student, source, data, out)
    assert "encoder_cosine" not in found
    assert details == {"left_out": ["encoder"]}
    assert found["top1_agreement"] < 100
