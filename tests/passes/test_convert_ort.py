"""ORT format: the same answers from smaller builds, weights still narrow, and the list of what a build must have."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_whisper import exported, run_pass
from runner_fixtures import sound

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.checks import agreement_db
from pocket_opt.onnx_graphs.files import load, new_node, save
from pocket_opt.passes import convert_ort
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions

STYLES = pytest.mark.parametrize("style", ["fixed", "runtime"])


def small(workdir: Path) -> Artifact:
    """Fused, 8-bit weights in the decoder and its table, the rest stored in 16 bits."""
    model = run_pass("fuse", exported("kv_cache", 1, 1), workdir / "fuse").artifact
    model = run_pass("weight_only", model, workdir / "weights", components=("decoder",)).artifact
    model = run_pass("quantize_embedding", model, workdir / "embedding").artifact
    return run_pass("store_fp16", model, workdir / "fp16").artifact


@STYLES
def test_graphs_answer_as_before_and_stay_small(style: str, tmp_path: Path) -> None:
    model = small(tmp_path)
    outcome = run_pass("convert_ort", model, tmp_path / "ort", style=style)
    for name in ("mel", "encoder", "decoder"):
        assert outcome.artifact.path(name).suffix == ".ort"
        assert agreement_db(model, outcome.artifact, name) > 80
    assert outcome.artifact.model_mb < 1.5 * model.model_mb
    assert outcome.did["components"]["decoder"]["scales_widened"] > 0
    assert not list((tmp_path / "ort").glob("*.onnx*"))
    assert open_runtime(outcome.artifact).sample_rate == 16_000


def test_a_loop_inside_a_graph_answers_as_before(tmp_path: Path) -> None:
    model = run_pass("compose_all_in_one", small(tmp_path), tmp_path / "one").artifact
    outcome = run_pass("convert_ort", model, tmp_path / "ort")
    assert outcome.did["components"]["all_in_one"]["scales_widened"] > 0
    before, after = (
        open_runtime(artifact).transcribe([sound(2, 0)], DecodeOptions("en", max_new_tokens=12))[0]
        for artifact in (model.save(), outcome.artifact)
    )
    assert after.tokens == before.tokens
    assert len(set(after.tokens)) > 1


def test_the_list_for_reduced_builds_names_what_is_needed(tmp_path: Path) -> None:
    outcome = run_pass("convert_ort", small(tmp_path), tmp_path / "ort")
    text = outcome.artifact.file("operators", convert_ort.OPERATORS).read_text()
    for operator in ("MatMulNBits", "GatherBlockQuantized", "LayerNormalization"):
        assert operator in text
    assert '["float"' in text
    plain = run_pass("convert_ort", small(tmp_path / "2"), tmp_path / "plain", types=False)
    assert "{" not in plain.artifact.file("operators", convert_ort.OPERATORS).read_text()
    assert plain.did["operators"] == outcome.did["operators"]


def test_folded_constants_are_larger(tmp_path: Path) -> None:
    model = run_pass("store_fp16", exported("kv_cache", 1, 1), tmp_path / "fp16").artifact
    narrow = run_pass("convert_ort", model, tmp_path / "narrow").artifact.model_mb
    folded = run_pass("convert_ort", model, tmp_path / "folded", fold=True).artifact.model_mb
    assert folded > 1.4 * narrow


def test_what_accelerators_could_take_is_told(tmp_path: Path) -> None:
    did = run_pass("convert_ort", exported("kv_cache", 1, 1), tmp_path).did
    told = did["components"]["encoder"]["accelerators"]
    assert set(told) == {"nnapi", "nnapi_fixed_shapes", "coreml", "xnnpack"}
    assert 0 < told["nnapi"]["taken"] <= told["nnapi"]["nodes"]
    assert told["xnnpack"]["taken"] > 2
    assert "ai.onnx:LayerNormalization" in told["nnapi"]["unknown"]


def test_scales_that_are_computed_are_refused(tmp_path: Path) -> None:
    model = small(tmp_path).carry(tmp_path / "odd", without=("decoder",))
    graph = load(small(tmp_path / "again").path("decoder"))
    product = next(node for node in graph.graph if node.op_type == "MatMulNBits")
    scales = product.inputs[2]
    passed = new_node("odd", "Identity", [scales])
    passed.outputs[0].dtype, passed.outputs[0].shape = scales.dtype, scales.shape
    graph.graph.insert_before(product, passed)
    product.replace_input_with(2, passed.outputs[0])
    model = model.with_component("decoder", save(graph, model.root, "decoder.onnx"))
    with pytest.raises(
        PocketOptError, match="no constants, with which ONNX Runtime multiplies wrongly"
    ) as caught:
        run_pass("convert_ort", model, tmp_path / "ort")
    assert "'decoder'" in caught.value.where


def test_a_graph_beyond_the_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_ort, "MOST_BYTES", 1000)
    with pytest.raises(PocketOptError, match="the format ends at 2 GB"):
        run_pass("convert_ort", exported("kv_cache", 1, 1), tmp_path)


def test_a_model_without_graphs_is_refused(tmp_path: Path) -> None:
    converted = run_pass("convert_ort", exported("kv_cache", 1, 1), tmp_path / "1").artifact
    with pytest.raises(PocketOptError, match="no ONNX graph"):
        run_pass("convert_ort", converted, tmp_path / "2")
