"""Grids in Qualcomm's form: put back by the specification of that form, they give the graph that they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from compiled_whisper import quantized
from fake_converter import with_grids
from onnx import TensorProto, helper, numpy_helper

from pocket_opt.onnx_graphs.exact_products import SESSION_ENTRIES
from pocket_opt.onnx_graphs.files import load
from pocket_opt.onnx_graphs.inputs import random_inputs
from pocket_opt.qnn.encodings import Encodings, encoding, take_out


def answers(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for key, value in SESSION_ENTRIES.items():
        settings.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings).run(None, feeds)


def put_back(model: ir.Model, taken: Encodings) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    ports = [port.name for port in (*proto.graph.input, *proto.graph.output)]
    with_grids(proto.graph, taken.describe(), [name for name in ports if name not in taken.levels])
    return proto


@pytest.mark.parametrize("name", ["encoder", "prefill", "decoder"])
def test_grids_put_back_give_the_same_numbers(name: str) -> None:
    before, feeds = quantized(), random_inputs(quantized().components[name])
    model = load(before.path(name))
    taken = take_out(model.graph)
    left = {node.op_type for node in model.graph}
    assert not left & {"QuantizeLinear", "DequantizeLinear"}
    assert all(value.dtype != ir.DataType.UINT16 for value in (*model.graph.inputs, *model.graph.outputs))
    widths = {grids[0]["bitwidth"] for grids in taken.params.values()}
    assert 4 in widths <= {4, 8, 16, 32}
    expected = answers(onnx.load(before.path(name)), feeds)
    found = answers(put_back(model, taken), feeds)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert np.abs(one.astype(np.float64) - other).max() <= 2e-3 * np.abs(one).max()


def test_caches_go_in_and_out_in_levels() -> None:
    taken = take_out(load(quantized().path("decoder")).graph)
    ports = quantized().components["decoder"]
    wanted = {port.name for port in (*ports.inputs, *ports.outputs) if port.dtype == "uint16"}
    assert wanted
    assert set(taken.levels) == wanted


def test_a_second_grid_stays_in_the_graph() -> None:
    parts = {"s": np.float32(0.1), "z": np.uint16(0), "s8": np.float32(0.5), "z8": np.uint8(3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("Neg", ["b"], ["c"], name="neg"),
        helper.make_node("QuantizeLinear", ["b", "s8", "z8"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "s8", "z8"], ["e"], name="again"),
        helper.make_node("Add", ["c", "e"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in parts.items()]
    graph = helper.make_graph(nodes, "two", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feeds = {"x": np.array([0.33, 1.41, 3.0, 0.0], np.float32)}
    changed = ir.from_proto(model)
    taken = take_out(changed.graph)
    assert taken.kept == ["again"]
    assert list(taken.activations) == ["x"]
    assert [node.op_type for node in changed.graph] == ["Neg", "QuantizeLinear", "DequantizeLinear", "Add"]
    assert np.array_equal(answers(put_back(changed, taken), feeds)[0], answers(model, feeds)[0])


@pytest.mark.parametrize(
    ("zero", "dtype", "offset", "low", "high"),
    [
        (3, ir.DataType.UINT8, -3, -0.3, 25.2),
        (0, ir.DataType.INT8, -128, -12.8, 12.7),
        (0, ir.DataType.INT4, -8, -0.8, 0.7),
        (32768, ir.DataType.UINT16, -32768, -3276.8, 3276.7),
    ],
)
def test_levels_are_counted_from_zero(
    zero: int, dtype: ir.DataType, offset: int, low: float, high: float
) -> None:
    found = encoding(0.1, zero, dtype)
    assert found["offset"] == offset
    assert (found["min"], found["max"]) == (pytest.approx(low), pytest.approx(high))
    assert found["is_symmetric"] == str(dtype.name.startswith("INT"))
