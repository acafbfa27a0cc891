"""The files of Optimum: ports in its order, weights once, our tokens at every level, also where a row is dropped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from exported_whisper import digests, exported, run_pass
from layout_fixtures import LEVELS, heard, laid_out, names, optimized, tokens

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.onnxruntime_backend import open_backend


@pytest.mark.parametrize("level", LEVELS)
def test_the_tokens_stay(level: str) -> None:
    assert tokens(laid_out("optimum", level)) == tokens(optimized(level))
    assert len({token for clip in tokens(laid_out("optimum", level)) for token in clip}) >= 20


def test_unfused_graphs_are_laid_out_as_well(tmp_path: Path) -> None:
    plain = optimized("BASIC", fused=False)
    assert tokens(run_pass("layout_optimum", plain, tmp_path / "layout").artifact) == tokens(plain)


def test_timestamps_and_probabilities_stay() -> None:
    before, after = heard(optimized("BASIC"), timestamps=True), heard(laid_out("optimum"), timestamps=True)
    assert [clip.tokens for clip in after] == [clip.tokens for clip in before]
    assert [clip.segments for clip in after] == [clip.segments for clip in before]
    assert after[0].no_speech_prob == pytest.approx(before[0].no_speech_prob)
    assert after[0].avg_logprob == pytest.approx(before[0].avg_logprob)


def test_ports_are_those_of_optimum_in_its_order() -> None:
    artifact = laid_out("optimum")
    assert names(artifact, "encoder") == (["input_features"], ["last_hidden_state"])
    inputs, outputs = names(artifact, "decoder")
    caches = [
        f"{layer}.{side}.{kind}"
        for layer in (0, 1)
        for side in ("decoder", "encoder")
        for kind in ("key", "value")
    ]
    past = [f"past_key_values.{name}" for name in caches]
    assert inputs == ["input_ids", "encoder_hidden_states", *past, "use_cache_branch"]
    assert outputs == ["logits", *(f"present.{name}" for name in caches)]
    assert [artifact.components[name].files for name in ("encoder", "decoder")] == [
        ("encoder_model.onnx",),
        ("decoder_model_merged.onnx",),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_weights_are_stored_once(level: str) -> None:
    before, after = optimized(level), laid_out("optimum", level)
    sizes = [sum(artifact.size(name) for name in ("encoder", "decoder")) for artifact in (before, after)]
    nodes_of_a_branch = 60_000
    assert sizes[1] < sizes[0] + nodes_of_a_branch
    branches = [node for node in ir.load(after.path("decoder")).graph if node.op_type == "If"]
    assert [len(graph.as_graph().initializers) for graph in branches[0].attributes.values()] == [0, 0]


def test_what_depends_on_weights_alone_is_computed_outside_of_the_branches() -> None:
    graph = ir.load(laid_out("optimum", "MEDIUM").path("decoder")).graph
    switch = graph[-1]
    inside = {node.op_type for branch in switch.attributes.values() for node in branch.as_graph()}
    assert "Cast" not in inside
    assert {node.op_type for node in graph} == {"Cast", "Transpose", "If"}


def test_whatever_a_client_gives_as_past_at_first_is_ignored() -> None:
    artifact = laid_out("optimum")
    session = onnxruntime.InferenceSession(artifact.path("decoder"))
    random = np.random.default_rng(0)
    hidden = random.standard_normal((2, 200, 64)).astype(np.float32)
    given = {"input_ids": np.array([[1, 2], [3, 4]]), "encoder_hidden_states": hidden}
    results = []
    for length in (0, 1, 5):
        past = {
            port.name: random.standard_normal((2, 4, length, 16)).astype(np.float32)
            for port in session.get_inputs()
            if port.name.startswith("past")
        }
        results.append(session.run(["logits"], {**given, **past, "use_cache_branch": np.array([False])})[0])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_rows_can_be_chosen_from_a_state() -> None:
    artifact = laid_out("optimum")
    backend = open_backend(artifact.root, artifact.describe(), 1)
    features = np.random.default_rng(0).standard_normal((2, 80, 400)).astype(np.float32)
    fed = np.array([[5, 6], [7, 8]])
    _, state = backend.decode(fed, backend.encode(features))
    turned = backend.select(state, [1, 0, 1])
    straight, _ = backend.decode(np.array([[9], [9]]), state)
    chosen, _ = backend.decode(np.array([[9], [9], [9]]), turned)
    np.testing.assert_allclose(chosen, straight[[1, 0, 1]], rtol=1e-4, atol=1e-4)


def test_signed_weights_become_unsigned_because_clients_set_no_session_entries() -> None:
    artifact = laid_out("optimum", "HIGH")
    assert artifact.metadata["session"] == {"graph_optimization": "all", "entries": {}}
    weights = [
        node.inputs[1].dtype
        for node in ir.load(artifact.path("encoder")).graph
        if node.op_type == "MatMulInteger"
    ]
    assert set(weights) == {ir.DataType.UINT8}


def test_a_tokenizer_of_transformers_5_is_named_as_transformers_4_reads_it(tmp_path: Path) -> None:
    model = optimized("BASIC")
    carried = model.carry(tmp_path / "newer")
    path = carried.file("processor", "tokenizer_config.json")
    table = json.loads(path.read_text())
    table["extra_special_tokens"] = table.pop("additional_special_tokens")
    path.unlink()
    path.write_text(json.dumps(table))
    artifact = run_pass("layout_optimum", carried, tmp_path / "layout").artifact
    found = json.loads(artifact.file("processor", "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in found
    assert "<|startoftranscript|>" in found["additional_special_tokens"]


def test_bytes_are_the_same_twice(tmp_path: Path) -> None:
    first, second = (run_pass("layout_optimum", optimized("HIGH"), tmp_path / name) for name in "ab")
    assert digests(first.artifact) == digests(second.artifact)
    assert first.did["encoder"]["weights_made_unsigned"] == 22
    assert first.did["decoder"]["bytes_after"] == first.artifact.size("decoder")


def test_a_decoder_without_caches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="needs caches") as raised:
        run_pass("layout_optimum", exported("basic"), tmp_path)
    assert "decoder=kv_cache" in raised.value.fix


def test_a_source_model_is_refused(tmp_path: Path) -> None:
    source = Artifact(tmp_path, {}, {})
    with pytest.raises(PocketOptError, match="made from the ONNX graphs"):
        run_pass("layout_optimum", source, tmp_path / "layout")
