"""Sizes, and the merging of measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
from variant_fixtures import SIZES, make, metric, node, result

from pocket_opt.artifact import Component
from pocket_opt.bundle.metrics import collect, collect_baseline, sizes


def test_sizes_count_model_files_only_and_shared_ones_once(tmp_path: Path) -> None:
    made = make(tmp_path)
    found = sizes(made.artifact, made.variant.nodes)
    assert found["total_mb"]["value"] == pytest.approx(SIZES["HIGH"] / 1e6, abs=3e-4)
    assert set(found) == {"total_mb", "mel_mb", "encoder_mb", "decoder_mb", "ratio_to_source"}
    assert found["ratio_to_source"]["value"] == pytest.approx(28, abs=0.1)
    assert found["ratio_to_source"]["unit"] == "%"
    shared = made.artifact.with_component("again", Component("onnx", ("decoder.onnx",)))
    assert shared.model_mb == made.artifact.model_mb


def test_without_the_source_there_is_no_ratio(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert "ratio_to_source" not in sizes(made.artifact, [node("student", "x", after=10)])


def test_measurements_are_merged_by_group_and_the_baseline_kept_apart() -> None:
    measured = {
        "quality": result("quality", {"wer": metric(3, "%")}),
        "degradation": result("quality", {"wer_delta": metric(0.1, "points")}),
        "baseline.quality": result("quality", {"wer": metric(2.9, "%")}),
        "npu": result("npu", {"layer_fraction": metric(100, "%")}),
        "before_fp16": result("quality", {"wer": metric(2.8, "%")}),
        "parity": result("parity", {}),
    }
    found = collect(measured, {"total_mb": metric(1, "MB")})
    assert list(found) == ["quality", "size", "before_fp16", "npu"]
    assert set(found["quality"]) == {"wer", "wer_delta"}
    assert found["quality"]["wer"]["value"] == 3
    assert collect_baseline(measured) == {"quality": {"wer": metric(2.9, "%")}}
