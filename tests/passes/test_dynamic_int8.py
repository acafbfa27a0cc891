"""Dynamic INT8: every linear layer and nothing else, in the form that ONNX Runtime fuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import (
    LINEAR,
    PRODUCTS,
    after_load,
    digests,
    exported,
    graph,
    operators,
    outputs,
    run_pass,
)

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.passes.dynamic_int8 import LEFT_CONVOLUTIONS, PASS, DynamicInt8Params, quantize_columns
from pocket_opt.precision import Rule


def test_all_linear_layers_become_integer_and_answers_stay_close(tmp_path: Path) -> None:
    outcome = run_pass("dynamic_int8", exported(), tmp_path)
    for name in ("encoder", "decoder"):
        did, counts = outcome.did["components"][name], operators(graph(outcome.artifact, name))
        assert did["nodes"] == did["tensors"] == counts["MatMulInteger"] == LINEAR[name]
        assert (
            counts["MatMul"] == PRODUCTS[name] == len(did["left_out"]["right side is not a constant matrix"])
        )
        for old, new in zip(outputs(exported(), name), outputs(outcome.artifact, name), strict=True):
            assert sqnr_db(old, new) > 20
        assert outcome.artifact.components[name] == exported().components[name]


def test_linear_weights_take_a_quarter(tmp_path: Path) -> None:
    outcome = run_pass("dynamic_int8", exported(), tmp_path, components=("encoder",))
    old, new = graph(exported(), "encoder").initializers, graph(outcome.artifact, "encoder").initializers
    levels = {name: value.const_value for name, value in new.items() if name.endswith(".q8")}
    assert len(levels) == LINEAR["encoder"]
    for name, tensor in levels.items():
        original = old[name.removesuffix(".q8")].const_value
        assert tensor.nbytes * 4 == original.nbytes
        assert new[f"{name}.scales"].const_value.nbytes == 4 * original.shape[1]


def test_projections_of_one_input_share_its_rounding(tmp_path: Path) -> None:
    nodes = graph(run_pass("dynamic_int8", exported(), tmp_path, components=("encoder",)).artifact, "encoder")
    # Per layer: q, k and v share one, out_proj, fc1 and fc2 have their own; all cross projections share one.
    assert operators(nodes)["DynamicQuantizeLinear"] == 4 * 3 + 1


@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_the_runtime_fuses_every_layer(tmp_path: Path, component: str) -> None:
    artifact = run_pass("dynamic_int8", exported(), tmp_path).artifact
    loaded = after_load(artifact, component, tmp_path)
    assert "MatMulInteger" not in loaded
    assert loaded["DynamicQuantizeMatMul"] + loaded["MatMulIntegerToFloat"] == LINEAR[component]


def test_four_stored_bits_are_eight_once_the_graph_is_loaded(tmp_path: Path) -> None:
    plain, stored = (
        run_pass("dynamic_int8", exported(), tmp_path / f"{bits}", reduce_range=True, bits=bits)
        for bits in (8, 4)
    )
    for name in ("encoder", "decoder"):
        assert after_load(stored.artifact, name, tmp_path) == after_load(plain.artifact, name, tmp_path)
        assert stored.did["components"][name]["nodes_by_bits"] == {"4": LINEAR[name]}
        for old, new in zip(outputs(exported(), name), outputs(stored.artifact, name), strict=True):
            assert sqnr_db(old, new) > 7


def test_an_override_stores_a_layer_in_four_bits(tmp_path: Path) -> None:
    rules = (
        Rule("encoder.layers.0.*", bits=4, activations="dynamic"),
        Rule("encoder.layers.1.fc1", bits=8),
    )
    params = {"components": ("encoder",), "overrides": rules}
    did = run_pass("dynamic_int8", exported(), tmp_path, **params).did
    assert did["components"]["encoder"]["nodes_by_bits"] == {"4": 6, "8": LINEAR["encoder"] - 6}


@pytest.mark.parametrize("params", [{"weight_type": "uint8"}, {"per_channel": False}])
def test_four_bits_are_widened_in_one_way_only(params: dict[str, object]) -> None:
    with pytest.raises(UserError, match="widened to int8 with one scale a column"):
        PASS.check(DynamicInt8Params(bits=4, **params))


def test_the_artifact_says_what_its_sessions_need(tmp_path: Path) -> None:
    before = exported().metadata["session"]
    session = run_pass("dynamic_int8", exported(), tmp_path).artifact.metadata["session"]
    assert "session.x64quantprecision" not in before["entries"]
    assert session == {**before, "entries": {**before["entries"], "session.x64quantprecision": "1"}}
    reduced = run_pass("dynamic_int8", exported(), tmp_path / "reduced", reduce_range=True).artifact
    assert reduced.metadata["session"] == before


def test_excluded_layers_stay_as_they_were(tmp_path: Path) -> None:
    pattern = "encoder.layers.*.fc1/*"
    outcome = run_pass("dynamic_int8", exported(), tmp_path, components=("encoder",), exclude=(pattern,))
    names = [node.name for node in graph(outcome.artifact, "encoder") if node.op_type == "MatMul"]
    excluded = [f"encoder.layers.{i}.fc1/MatMul" for i in range(3)]
    assert set(excluded) <= set(names)
    assert outcome.did["components"]["encoder"]["left_out"]["excluded by pattern"] == excluded
    assert outcome.did["tensors"] == LINEAR["encoder"] - 3


@pytest.mark.parametrize("params", [{"weight_type": "uint8"}, {"per_channel": False}, {"reduce_range": True}])
def test_other_forms_compute_the_same(tmp_path: Path, params: dict[str, object]) -> None:
    artifact = run_pass("dynamic_int8", exported(), tmp_path, **params).artifact
    for old, new in zip(outputs(exported(), "decoder"), outputs(artifact, "decoder"), strict=True):
        assert sqnr_db(old, new) > 15


def test_columns_use_their_whole_range_and_zero_columns_stay_zero() -> None:
    weight = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32) * np.float32(
        [1, 100, 0.01, 1, 0]
    )
    for weight_type, zero in (("int8", 0), ("uint8", 128)):
        levels, scales = quantize_columns(weight, DynamicInt8Params(weight_type=weight_type))
        centred = levels.astype(np.float32) - zero
        assert np.all(np.abs(centred * scales - weight).max(axis=0)[:4] <= scales[:4] * 0.501)
        assert np.abs(centred).max(axis=0).tolist() == [127, 127, 127, 127, 0]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (run_pass("dynamic_int8", exported(), tmp_path / name).artifact for name in "ab")
    assert digests(first) == digests(second)
    assert ir.load(first.path("encoder")).metadata_props == {}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"components": ("mel", "encodr")}, "no ONNX component 'encodr'"),
        ({"exclude": ("encoder.layers.0.fc3/*",)}, r"'encoder.layers.0.fc3/\*' matches nothing"),
        ({"components": ("encoder",), "exclude": ("*",)}, "nothing could be changed in component 'encoder'"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        run_pass("dynamic_int8", exported(), tmp_path, **params)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weight_type", ["int8", "uint8"])
def test_convolutions_are_quantized_on_request_only(
    tmp_path: Path, per_channel: bool, weight_type: str
) -> None:
    plain = run_pass("dynamic_int8", exported(), tmp_path / "plain", components=("encoder",))
    report = plain.did["components"]["encoder"]
    assert operators(graph(plain.artifact, "encoder"))["Conv"] == 2
    assert report["left_out"][LEFT_CONVOLUTIONS] == ["encoder.conv1/Conv", "encoder.conv2/Conv"]
    form = {"per_channel": per_channel, "weight_type": weight_type, "convolutions": True}
    asked = run_pass("dynamic_int8", exported(), tmp_path / "asked", components=("encoder",), **form)
    counts = operators(graph(asked.artifact, "encoder"))
    assert (counts["Conv"], counts["ConvInteger"]) == (0, 2)
    assert asked.did["components"]["encoder"]["convolutions"] == 2
    assert asked.artifact.size("encoder") < plain.artifact.size("encoder")
    for full, found in zip(outputs(exported(), "encoder"), outputs(asked.artifact, "encoder"), strict=True):
        assert sqnr_db(full, found) > 12
