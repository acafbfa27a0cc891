"""The search: its file is carried out by the quantizers, keeps to the limit, and can be given back."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_whisper import exported, graph, operators, run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome
from pocket_opt.precision import read_file, searched

QUICK = {"clips": 1, "noise_db": (), "forced": 1, "granularity": "block", "decoder_forms": ("int8", "int4")}


def small() -> Artifact:
    """One layer of each kind."""
    return exported("kv_cache", 1, 1)


def search(workdir: Path, wer_delta: float, model: Artifact | None = None, **params: object) -> Outcome:
    clips = str(Dataset.open("sample:calibration").source)
    return run_pass(
        "sensitivity_search",
        model or small(),
        workdir,
        wer_delta=wer_delta,
        calibration_path=clips,
        **{**QUICK, **params},
    )


def quantized(model: Artifact, workdir: Path, **params: object) -> Artifact:
    for name, own in (
        ("dynamic_int8", "encoder"),
        ("weight_only", "decoder"),
        ("quantize_embedding", "decoder"),
    ):
        model = run_pass(name, model, workdir / name, components=(own,), **params).artifact
    return model


def test_without_a_limit_everything_becomes_as_small_as_it_can(tmp_path: Path) -> None:
    outcome = search(tmp_path / "search", 1000)
    did = outcome.did
    assert did["taken"] == did["moves"]
    assert set(did["forms"]) == {"int4", "int4_dynamic"}
    least = quantized(outcome.artifact, tmp_path)
    counts = operators(graph(least, "encoder")) + operators(graph(least, "decoder"))
    assert counts["MatMulNBits"] + counts["MatMulInteger"] == did["layers"]
    file = outcome.artifact.path("overrides")
    given = quantized(small(), tmp_path / "given", overrides=tuple(read_file(file, where="")))
    assert given.path("decoder").read_bytes() == least.path("decoder").read_bytes()
    assert given.path("encoder").read_bytes() == least.path("encoder").read_bytes()


def test_a_limit_is_kept_and_everything_tried_is_told(tmp_path: Path) -> None:
    did = search(tmp_path, 5.0).did
    assert did["expected_changed_words_percent"] <= 5.0
    assert 0 < did["matrix_bytes"] <= did["matrix_bytes_fp16"]
    assert any(tried["changed_words_percent"] > 5.0 for tried in did["tried"])


def test_the_file_says_what_each_choice_costs(tmp_path: Path) -> None:
    lines = search(tmp_path, -1).artifact.path("overrides").read_text().splitlines()
    assert lines[0].startswith("# Written by sensitivity_search: at most -1 % of")
    assert all("{bits: none}" in line for line in lines[3:])
    assert {rule.bits for rule in searched(Artifact.load(tmp_path))} == {"none"}


def test_static_graphs_are_searched_between_8_and_4_bits(tmp_path: Path) -> None:
    forms = {**load_pass("quantize_qdq").search_params, "granularity": "layer"}
    model = exported("static", 1, 1)
    everything = search(tmp_path / "all", 1000, model, **forms)
    assert everything.did["forms"] == {"static4": everything.did["layers"]}
    assert len({rule.pattern for rule in searched(everything.artifact)}) == everything.did["layers"]
    nothing = search(tmp_path / "none", -1, model, **forms)
    assert nothing.did["forms"] == {"static8": everything.did["layers"]}
    assert nothing.did["matrix_bytes"] > everything.did["matrix_bytes"]
    clips = {"calibration_path": str(Dataset.open("sample:calibration").source), "calibration_clips": 2}
    small4, large8 = (
        run_pass("quantize_qdq", found.artifact, tmp_path / name, **clips, least_clips=2)
        for name, found in (("4", everything), ("8", nothing))
    )
    for graph_name in ("encoder", "prefill", "decoder"):
        assert "int4" in small4.did["components"][graph_name]["weights"]
        assert "int4" not in large8.did["components"][graph_name]["weights"]


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    made = run_pass("linear_as_convolution", exported("static", 1, 1), tmp_path / "1").artifact
    with pytest.raises(PocketOptError, match="no layer whose precision could be chosen"):
        search(tmp_path / "2", 1, made, **load_pass("quantize_qdq").search_params)


def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    model = run_pass("weight_only", small(), tmp_path / "1").artifact
    with pytest.raises(PocketOptError, match="is quantized already"):
        search(tmp_path / "2", 1, model)
