"""Latency of graphs without a family: in turns with the source where it has a counterpart, else alone."""

from __future__ import annotations

from pathlib import Path

from graphs_without_a_family import source, zeros

from pocket_opt.evaluation.graph_latency import PASS, GraphLatencyParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def test_graphs_are_timed_beside_the_source(tmp_path: Path) -> None:
    model = zeros(tmp_path / "zeros", "model", "decoder_with_past_model")
    workdir = tmp_path / "latency"
    workdir.mkdir()
    params = GraphLatencyParams(length=6, min_repeats=5, max_repeats=5)
    inputs = {"model": model, "source": source(tmp_path / "source")}
    metrics = read_result(execute(PASS, inputs, params, workdir).artifact)["metrics"]
    assert metrics["model_ms_p50"]["n"] == 5
    assert 0 < metrics["model_ms_p50"]["value"] < metrics["model_source_ms_p50"]["value"]
    assert metrics["model_of_source"]["value"] < 1
    assert "input_ids [1, 6]" in metrics["model_ms_p95"]["method"]
    assert metrics["decoder_with_past_model_ms_p50"]["value"] > 0
    assert "decoder_with_past_model_of_source" not in metrics
    assert metrics["load_s"]["value"] > 0
