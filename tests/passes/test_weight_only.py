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
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
from pocket_opt.onnx_graphs.files import constant, linear_layers, sqnr_db
from pocket_opt.passes.weight_only import WeightOnlyParams, bits_of


def dequantized(component: str, workdir: Path, **how: Any) -> Artifact:
    """The exported artifact whose linear weights are float32, but of the values that quantization leaves."""

    def change(nodes: ir.Graph) -> None:
        for node in linear_layers(nodes):
            value = node.inputs[1]
            assert value is not None
            restored = quantize_blocks(constant(value).T, **how).dequantize().T
            value.const_value = ir.tensor(np.ascontiguousarray(restored), name=value.name)

    return edited(component, workdir, change)


@pytest.mark.parametrize("bits", [4, 8])
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
    overrides = (("*attn*", 8), ("decoder.layers.1.*", 4))
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


def test_the_last_override_that_matches_counts() -> None:
    params = WeightOnlyParams(bits=8, overrides=(("*.fc?/*", 4), ("*.fc1/*", 8)))
    found = [bits_of(name, params) for name in ("a.fc1/MatMul", "a.fc2/MatMul", "a.q_proj/MatMul")]
    assert found == [8, 4, 8]


def test_the_least_exact_tensor_is_named(tmp_path: Path) -> None:
    did = run_pass(
        "weight_only", exported(), tmp_path, components=("decoder",), overrides=(("*layers.1.fc2/*", 4),)
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
        ({"overrides": (("*.k_pro/*", 8),)}, r"'\*\.k_pro/\*' matches nothing"),
        ({"components": ("mel",)}, "matches nothing"),
        ({"exclude": ("*",)}, "nothing could be changed in component 'encoder'"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        run_pass("weight_only", exported(), tmp_path, **params)
