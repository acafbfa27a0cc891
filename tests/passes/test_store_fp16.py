"""FP16 weights: half the file, the same answers, and no tensor that float16 does not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from exported_whisper import after_load, digests, edited, exported, graph, operators, outputs, run_pass

from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import save, sqnr_db
from pocket_opt.onnx_graphs.half_precision import HalfPrecision
from pocket_opt.passes.store_fp16 import unfit

CONV = "model.encoder.conv1.weight"
POSITIONS = "model.encoder.embed_positions.weight"


def test_sinusoidal_positions_are_computed_and_not_stored(tmp_path: Path) -> None:
    outcome = run_pass("store_fp16", exported(), tmp_path)
    computed = {name: part["computed"] for name, part in outcome.did["components"].items()}
    assert computed == {"encoder": [POSITIONS], "decoder": []}
    loaded = after_load(outcome.artifact, "encoder", tmp_path)
    assert not loaded.keys() & {"Sin", "Cos", "Exp", "Range"}


def test_files_are_half_as_large_and_answers_are_the_same(tmp_path: Path) -> None:
    outcome = run_pass("store_fp16", exported(), tmp_path)
    for name in ("encoder", "decoder"):
        assert outcome.artifact.size(name) < 0.54 * exported().size(name)
        for old, new in zip(outputs(exported(), name), outputs(outcome.artifact, name), strict=True):
            assert sqnr_db(old, new) > 50
        assert outcome.artifact.components[name] == exported().components[name]
        part = outcome.did["components"][name]
        assert part["tensors"] == operators(graph(outcome.artifact, name))["Cast"] > 10
        assert part["bytes_after"] == outcome.artifact.size(name)


def test_casts_are_folded_when_the_graph_is_loaded(tmp_path: Path) -> None:
    artifact = run_pass("store_fp16", exported(), tmp_path).artifact
    assert "Cast" not in after_load(artifact, "encoder", tmp_path)
    assert after_load(artifact, "encoder", tmp_path) == after_load(exported(), "encoder", tmp_path)


def test_weights_keep_their_names_and_other_components_their_bytes(tmp_path: Path) -> None:
    artifact = run_pass("store_fp16", exported(), tmp_path).artifact
    found, expected = (set(graph(model, "encoder").initializers) for model in (artifact, exported()))
    assert expected - found == {POSITIONS}
    assert all(name.startswith(POSITIONS) for name in found - expected)
    before, after = digests(exported()), digests(artifact)
    assert {name for name in before if before[name] != after[name]} == {"encoder.onnx", "decoder.onnx"}


def test_kept_tensors_stay_float32(tmp_path: Path) -> None:
    outcome = run_pass("store_fp16", exported(), tmp_path, components=("encoder",), keep=("*.conv?.weight",))
    assert graph(outcome.artifact, "encoder").initializers[CONV].dtype == ir.DataType.FLOAT
    kept = outcome.did["components"]["encoder"]["left_out"]["kept by pattern"]
    assert kept == [CONV, "model.encoder.conv2.weight"]


@pytest.mark.parametrize("compute", ["stored", "native"])
@pytest.mark.parametrize(("scale", "reason"), [(1e5, "beyond the range"), (1e-7, "too small")])
def test_what_float16_cannot_hold_stays_with_the_reason(
    tmp_path: Path, scale: float, reason: str, compute: str
) -> None:
    def rescale(nodes: ir.Graph) -> None:
        value = nodes.initializers[CONV]
        assert value.const_value is not None
        weight = value.const_value.numpy()
        value.const_value = ir.tensor(weight / np.abs(weight).max() * np.float32(scale), name=CONV)

    source = edited("encoder", tmp_path / "source", rescale)
    outcome = run_pass("store_fp16", source, tmp_path / "out", components=("encoder",), compute=compute)
    left_out = outcome.did["components"]["encoder"]["left_out"]
    assert [names for why, names in left_out.items() if why.startswith(reason)] == [[CONV]]
    assert graph(outcome.artifact, "encoder").initializers[CONV].dtype == ir.DataType.FLOAT


def test_a_tensor_is_unfit_only_where_half_precision_loses_it() -> None:
    normal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert not unfit(normal)
    assert not unfit(np.zeros(4, np.float32))
    assert unfit(normal * 1e-5) == "too small for float16"
    assert unfit(np.float32([7e4])) == "beyond the range of float16"


def test_scales_of_quantized_weights_are_halved_too(tmp_path: Path) -> None:
    quantized = run_pass("weight_only", exported(), tmp_path / "int8").artifact
    halved = run_pass("store_fp16", quantized, tmp_path / "fp16", min_bytes=256)
    scales = [
        value
        for name, value in graph(halved.artifact, "decoder").initializers.items()
        if name.endswith("scales")
    ]
    assert {value.dtype for value in scales} == {ir.DataType.FLOAT16}
    assert after_load(halved.artifact, "decoder", tmp_path) == after_load(quantized, "decoder", tmp_path)
    assert halved.did["bytes_after"] < halved.did["bytes_before"]


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_native_computes_in_half_precision_between_float32_ports(tmp_path: Path, decoder: str) -> None:
    outcome = run_pass("store_fp16", exported(decoder), tmp_path, compute="native")
    for name in ("encoder", "decoder"):
        assert outcome.artifact.components[name] == exported(decoder).components[name]
        did = outcome.did["components"][name]
        assert did["nodes_fp16"] > did["nodes_fp32"] > 0
        assert outcome.artifact.size(name) < 0.6 * exported(decoder).size(name)
        for old, new in zip(outputs(exported(decoder), name), outputs(outcome.artifact, name), strict=True):
            assert 40 < sqnr_db(old, new) < 90


def test_native_keeps_normalization_softmax_and_named_nodes_in_float32(tmp_path: Path) -> None:
    kept = "encoder.layers.0.fc1/*"
    artifact = run_pass(
        "store_fp16", exported(), tmp_path, components=("encoder",), compute="native", keep=(kept,)
    ).artifact
    weights = graph(artifact, "encoder").initializers
    types = {
        name: weights[f"model.encoder.{name}"].dtype.name
        for name in ("layers.0.fc1.weight", "layers.1.fc1.weight", "layer_norm.weight")
    }
    assert types == {
        "layers.0.fc1.weight": "FLOAT",
        "layers.1.fc1.weight": "FLOAT16",
        "layer_norm.weight": "FLOAT",
    }


@pytest.mark.parametrize("first", ["store_fp16", "dynamic_int8", "weight_only", "quantize_embedding"])
def test_native_takes_graphs_that_are_halved_or_quantized(tmp_path: Path, first: str) -> None:
    source = run_pass(first, exported(), tmp_path / "1", components=("decoder",)).artifact
    artifact = run_pass(
        "store_fp16", source, tmp_path / "2", components=("decoder",), compute="native"
    ).artifact
    for old, new in zip(outputs(source, "decoder"), outputs(artifact, "decoder"), strict=True):
        assert sqnr_db(old, new) > 20


def test_native_converts_constants_in_attributes_and_picks_types_by_branch(tmp_path: Path) -> None:
    """`where(x > 0, x, [1e6])`, whose constant is beyond float16 and a Constant node."""
    x = ir.val("x", ir.DataType.FLOAT, ("length",))
    constant = ir.node("Constant", [], {"value": ir.tensor(np.float32([1e6]))}, name="limit/Constant")
    zero = ir.node("Constant", [], {"value": ir.tensor(np.float32([0]))}, name="zero/Constant")
    positive = ir.node("Greater", [x, zero.outputs[0]], name="sign/Greater")
    chosen = ir.node("Where", [positive.outputs[0], x, constant.outputs[0]], name="choice/Where")
    result = chosen.outputs[0]
    result.name, result.dtype, result.shape = "y", ir.DataType.FLOAT, ir.Shape(("length",))
    nodes = ir.Graph(
        (x,), (result,), nodes=(constant, zero, positive, chosen), opset_imports={"": 20}, name="g"
    )
    converted = HalfPrecision(nodes, fits=(), keep=())
    assert (converted.nodes_fp16, converted.nodes_fp32) == (4, 0)
    save(ir.Model(nodes, ir_version=10), tmp_path, "g.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": np.float32([-1, 2])})
    assert found.tolist() == [65504, 2]
    assert found.dtype == np.float32


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for compute in ("stored", "native"):
        runs = [
            run_pass("store_fp16", exported(), tmp_path / f"{compute}{i}", compute=compute) for i in (0, 1)
        ]
        assert digests(runs[0].artifact) == digests(runs[1].artifact)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"components": ("decodr",)}, "no ONNX component 'decodr'"),
        ({"components": ()}, "no component is named"),
        ({"keep": ("*.conv9.*",)}, "matches nothing"),
        ({"keep": ("*",)}, "nothing could be changed in component 'encoder'"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        run_pass("store_fp16", exported(), tmp_path, **params)
