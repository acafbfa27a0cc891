"""Parity of graphs without a family: the numbers of a known difference, and what has no counterpart."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphs_without_a_family import source, zeros

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.graph_parity import PASS, GraphParityParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def measure(model: Artifact, reference: Artifact, workdir: Path) -> dict[str, object]:
    workdir.mkdir()
    inputs = {"model": model, "source": reference}
    return read_result(execute(PASS, inputs, GraphParityParams(length=6), workdir).artifact)


def test_zeros_are_as_far_as_the_answers_are_large(tmp_path: Path) -> None:
    model = zeros(tmp_path / "zeros", "model", "decoder_with_past_model")
    found = measure(model, source(tmp_path / "source"), tmp_path / "parity")
    metrics, details = found["metrics"], found["details"]
    assert metrics["model_sqnr_db"]["value"] == pytest.approx(0)
    assert metrics["model_cosine"]["value"] == 0
    assert metrics["model_max_error"]["value"] > 0
    assert metrics["model_top1_agreement"]["n"] == 3
    assert details == {"compared": {"model": ["logits"]}, "left_out": ["decoder_with_past_model"]}


def test_nothing_to_compare_is_a_failure(tmp_path: Path) -> None:
    model = zeros(tmp_path / "zeros", "model", output="tokens")
    with pytest.raises(PocketOptError, match="no output of the graphs has a counterpart") as caught:
        measure(model, source(tmp_path / "source"), tmp_path / "parity")
    assert "~nodes.parity" in caught.value.fix
