"""Weight-only quantization: the kernels compute with the weights we stored, and the sizes are as promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import (
    LINEAR,
    PRODUCTS,
    after_load,
    digests,
    edited,
    exported,
    graph,
    operators,
    outputs,
    run_pass,
)

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.files import constant, linear_layers, module_of, sqnr_db
from pocket_opt.precision import Rule
from pocket_opt.runtimes.calibration import Calibration


def dequantized(component: str, workdir: Path, **how: Any) -> Artifact:
    """The exported artifact whose linear weights are float32, but of the values that quantization leaves."""

    def change(nodes: ir.Graph) -> None:
        for node in linear_layers(nodes):
            value = node.inputs[1]
            assert value is not None
            restored = quantize_blocks(constant(value).T, **how).dequantize().T
            value.const_value = ir.tensor(np.ascontiguousarray(restored), name=value.name)

    return edited(component, workdir, change)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_kernels_compute_with_exactly_the_stored_weights(tmp_path: Path, bits: int, symmetric: bool) -> None:
    how: dict[str, Any] = {"bits": bits, "block_size": 32, "symmetric": symmetric}
    found = run_pass("weight_only", exported(), tmp_path / "found", accuracy_level=0, **how).artifact
    for name in ("encoder", "decoder"):
        expected = dequantized(name, tmp_path / name, **how)
        for old, new in zip(outputs(expected, name), outputs(found, name), strict=True):
            assert sqnr_db(old, new) > 90


@pytest.mark.parametrize(
    ("bits", "block_size", "least"), [(8, 32, 25), (8, 128, 24), (4, 16, 8), (4, 32, 6), (4, 64, 5)]
)
def test_answers_stay_close_at_integer_accuracy(
    tmp_path: Path, bits: int, block_size: int, least: float
) -> None:
    artifact = run_pass("weight_only", exported(), tmp_path, bits=bits, block_size=block_size).artifact
    for name in ("encoder", "decoder"):
        for old, new in zip(outputs(exported(), name), outputs(artifact, name), strict=True):
            assert sqnr_db(old, new) > least


@pytest.mark.parametrize(("bits", "share"), [(8, 9 / 32), (4, 5 / 32)])
def test_weights_take_their_bits_and_a_scale_per_block(tmp_path: Path, bits: int, share: float) -> None:
    outcome = run_pass("weight_only", exported(), tmp_path, bits=bits)
    for name in ("encoder", "decoder"):
        did, counts = outcome.did["components"][name], operators(graph(outcome.artifact, name))
        assert did["tensors"] == counts["MatMulNBits"] == LINEAR[name]
        assert did["nodes_by_bits"] == {str(bits): LINEAR[name]}
        assert (
            counts["MatMul"] == PRODUCTS[name] == len(did["left_out"]["right side is not a constant matrix"])
        )
        weights = [
            value.const_value.nbytes
            for value in graph(exported(), name).initializers.values()
            if _linear(value)
        ]
        made = [
            value.const_value.nbytes
            for key, value in graph(outcome.artifact, name).initializers.items()
            if f".q{bits}" in key
        ]
        assert sum(made) == pytest.approx(share * sum(weights))
        assert outcome.artifact.components[name] == exported().components[name]


def _linear(value: ir.Value) -> bool:
    return any(node.op_type == "MatMul" for node in value.consumers())


def test_overrides_and_exclusions_apply_by_node_name(tmp_path: Path) -> None:
    overrides = (Rule("*attn*", bits=8), Rule("decoder.layers.1.*", bits=4))
    excluded = "decoder.layers.0.fc2/*"
    outcome = run_pass(
        "weight_only",
        exported(),
        tmp_path,
        components=("decoder",),
        bits=4,
        overrides=overrides,
        exclude=(excluded,),
    )
    did = outcome.did["components"]["decoder"]
    assert did["nodes_by_bits"] == {"8": 6, "4": 9}
    assert did["left_out"]["excluded by pattern"] == ["decoder.layers.0.fc2/MatMul"]
    bits = {
        node.name: node.attributes["bits"].as_int()
        for node in graph(outcome.artifact, "decoder")
        if node.op_type == "MatMulNBits"
    }
    assert bits["decoder.layers.0.self_attn.q_proj/MatMulNBits"] == 8
    assert bits["decoder.layers.1.self_attn.q_proj/MatMulNBits"] == 4


def settings(artifact: Artifact, component: str) -> dict[str, tuple[str, int]]:
    """Module -> operator and bits of every layer with a constant matrix."""
    nodes = [node for node in graph(artifact, component) if node.op_type.startswith("MatMul")]
    found = {}
    for node in nodes:
        bits = node.attributes.get("bits")
        if node.op_type != "MatMul" or node.inputs[1].const_value is not None:
            found[module_of(node)] = (node.op_type, bits.as_int() if bits else 0)
    return found


def test_an_override_sets_every_part_of_a_layers_form(tmp_path: Path) -> None:
    rule = Rule("decoder.layers.0.fc1", bits=4, block_size=16, symmetric=False, algorithm="k_quant")
    keep = Rule("decoder.layers.0.fc2", bits="none")
    outcome = run_pass("weight_only", exported(), tmp_path, components=("decoder",), overrides=(rule, keep))
    found = settings(outcome.artifact, "decoder")
    assert found["decoder.layers.0.fc1"] == ("MatMulNBits", 4)
    assert found["decoder.layers.0.fc2"] == ("MatMul", 0)
    assert found["decoder.layers.1.fc1"] == ("MatMulNBits", 8)
    did = outcome.did["components"]["decoder"]
    assert did["left_out"]["left float by an override"] == ["decoder.layers.0.fc2/MatMul"]
    assert did["algorithms"] == {"rtn": 14, "k_quant": 1}
    names = graph(outcome.artifact, "decoder").initializers
    assert names["model.decoder.layers.0.fc1.weight.q4"].shape == (128, 4, 8)
    assert "model.decoder.layers.0.fc1.weight.q4.zero_points" in names


def test_one_table_of_overrides_mixes_integer_products_and_weights_across_graphs(tmp_path: Path) -> None:
    overrides = (
        Rule("encoder.layers.0.*", bits=4, symmetric=False),
        Rule("encoder.layers.1.fc1", bits="none"),
        Rule("encoder.layers.1.fc2", bits=8, activations="float"),
        Rule("decoder.layers.1.fc1", bits=8, activations="dynamic"),
        Rule("decoder.embed_tokens", bits=4),
    )
    model = exported()
    for number, (name, params) in enumerate(
        [
            ("dynamic_int8", {"components": ("encoder",)}),
            ("weight_only", {"components": ("decoder",)}),
            ("quantize_embedding", {}),
        ]
    ):
        model = run_pass(name, model, tmp_path / str(number), overrides=overrides, **params).artifact
    encoder, decoder = settings(model, "encoder"), settings(model, "decoder")
    assert {encoder[f"encoder.layers.0.{name}"] for name in ("fc1", "self_attn.q_proj")} == {
        ("MatMulNBits", 4)
    }
    assert encoder["encoder.layers.1.fc1"] == ("MatMul", 0)
    assert encoder["encoder.layers.1.fc2"] == ("MatMulNBits", 8)
    assert encoder["encoder.layers.2.fc1"] == ("MatMulInteger", 0)
    assert decoder["decoder.layers.1.fc1"] == ("MatMulInteger", 0)
    assert decoder["decoder.layers.1.fc2"] == ("MatMulNBits", 8)
    assert decoder["proj_out"] == ("MatMulNBits", 4)
    for old, new in zip(outputs(exported(), "decoder"), outputs(model, "decoder"), strict=True):
        assert sqnr_db(old, new) > 5


def test_all_layers_left_float_is_no_failure(tmp_path: Path) -> None:
    rules = (Rule("*", bits="none"),)
    for name in ("dynamic_int8", "weight_only", "quantize_embedding"):
        outcome = run_pass(name, exported(), tmp_path / name, overrides=rules)
        assert outcome.did["tensors"] == 0


def test_dynamic_activations_that_nothing_made_are_an_error(tmp_path: Path) -> None:
    rules = (Rule("encoder.layers.0.fc1", activations="dynamic"),)
    with pytest.raises(PocketOptError, match=r"'encoder.layers.0.fc1/MatMul', and no pass before this"):
        run_pass("weight_only", exported(), tmp_path, overrides=rules)


def test_gptq_keeps_the_answers_nearer_on_the_clips_than_rounding(tmp_path: Path) -> None:
    clips = Dataset.open("sample:calibration").limit(6)
    calibration = Calibration.hear(exported(), clips, lambda *_: None)
    inputs = list(calibration.feeds("encoder")())
    levels = {}
    for algorithm in ("k_quant", "gptq"):
        how: dict[str, Any] = {"bits": 4, "algorithm": algorithm, "components": ("encoder",)}
        how |= {"calibration_path": str(clips.source), "calibration_clips": 6, "accuracy_level": 0}
        outcome = run_pass("weight_only", exported(), tmp_path / algorithm, **how)
        assert outcome.did["components"]["encoder"]["algorithms"] == {algorithm: LINEAR["encoder"]}
        before, after = (open_session(artifact, "encoder") for artifact in (exported(), outcome.artifact))
        old, new = (
            np.concatenate([session.run(["encoder_hidden"], feeds)[0] for feeds in inputs])
            for session in (before, after)
        )
        levels[algorithm] = sqnr_db(old, new)
    assert levels["gptq"] > levels["k_quant"] + 1


def test_gptq_hears_graphs_of_static_shapes(tmp_path: Path) -> None:
    clips = {"calibration_path": str(Dataset.open("sample:calibration").source), "calibration_clips": 2}
    graphs = ("encoder", "prefill", "decoder")
    model = exported("static", 1, 1)
    outcome = run_pass("weight_only", model, tmp_path, algorithm="gptq", components=graphs, **clips)
    for name in graphs:
        assert set(outcome.did["components"][name]["algorithms"]) == {"gptq"}


def test_the_least_exact_tensor_is_named(tmp_path: Path) -> None:
    did = run_pass(
        "weight_only",
        exported(),
        tmp_path,
        components=("decoder",),
        overrides=(Rule("*layers.1.fc2", bits=4),),
    ).did
    worst = did["components"]["decoder"]["least_exact"]
    assert worst["tensor"] == "model.decoder.layers.1.fc2.weight"
    assert 15 < worst["sqnr_db"] < 30


def test_the_searched_scales_are_no_worse(tmp_path: Path) -> None:
    levels = {}
    for algorithm in ("rtn", "k_quant"):
        how = {"bits": 4, "symmetric": False, "algorithm": algorithm, "components": ("encoder",)}
        artifact = run_pass("weight_only", exported(), tmp_path / algorithm, **how).artifact
        levels[algorithm] = sqnr_db(outputs(exported(), "encoder")[0], outputs(artifact, "encoder")[0])
    assert levels["k_quant"] > levels["rtn"] - 1


def test_a_loaded_graph_has_nothing_to_unpack_at_run_time(tmp_path: Path) -> None:
    artifact = run_pass("weight_only", exported(), tmp_path).artifact
    loaded = after_load(artifact, "decoder", tmp_path)
    assert loaded["MatMulNBits"] == LINEAR["decoder"]
    assert "DequantizeLinear" not in loaded


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (run_pass("weight_only", exported(), tmp_path / name, bits=4).artifact for name in "ab")
    assert digests(first) == digests(second)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"overrides": (Rule("*.k_pro/*", bits=8),)}, r"'\*\.k_pro/\*' matches nothing"),
        ({"components": ("mel",)}, "matches nothing"),
        ({"exclude": ("*",)}, "nothing could be changed in component 'encoder'"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        run_pass("weight_only", exported(), tmp_path, **params)
