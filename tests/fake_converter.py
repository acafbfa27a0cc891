"""What the converters of the stand-in for Qualcomm's SDK do: they put grids back where an encodings file says.

Written by the specification of that file (AIMET, encoding format 0.6.1), not by what wrote it: a real number is
scale x (level + offset), with levels from 0 to 2^bitwidth - 1. Copied into the stand-in, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper, numpy_helper

KEYS = {"bitwidth", "dtype", "is_symmetric", "scale", "offset", "min", "max"}
UNSIGNED = {8: np.uint8, 16: np.uint16}
SIGNED = {4: np.int8, 8: np.int8, 16: np.int16, 32: np.int32}


def fail(said: str) -> NoReturn:
    """End as the programs do."""
    print(said, file=sys.stderr)
    raise SystemExit(1)


def convert(network: str, grids: str | None, shapes: Sequence[Sequence[str]], exact: Sequence[str]) -> bytes:
    """The graph with its grids; FAKE_SDK says what goes wrong instead."""
    trouble = os.environ.get("FAKE_SDK", "")
    if trouble == "fails":
        fail("2026-01-01 - ERROR - Node encoder.layers.0/Add: Unable to translate")
    if trouble == "hangs":
        time.sleep(60)
    if trouble == "silent":
        raise SystemExit(0)
    if not Path(network).is_file():
        fail(f"ERROR - No such file: {network}")
    model = onnx.load(network)
    ports = {
        port.name: ",".join(str(size.dim_value) for size in port.type.tensor_type.shape.dim)
        for port in model.graph.input
    }
    for name, dims in shapes:
        if ports.get(name) != dims:
            fail(f"ERROR - input {name} has the dimensions {ports.get(name)}, not {dims}")
    if unknown := set(exact) - {*ports, *(port.name for port in model.graph.output)}:
        fail(f"ERROR - no such ports: {unknown}")
    if grids:
        with_grids(model.graph, json.loads(Path(grids).read_text()), exact)
    return model.SerializeToString()


def with_grids(graph: onnx.GraphProto, table: dict[str, Any], exact: Sequence[str]) -> None:
    """Quantize `graph`; ports with a grid become ports of levels, except those in `exact`."""
    assert set(table) == {"version", "activation_encodings", "param_encodings"}
    assert table["version"] == "0.6.1"
    nodes = list(graph.node)
    for name, [grid] in table["activation_encodings"].items():
        nodes += _activation(graph, name, grid, exact)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for name, grids in table["param_encodings"].items():
        nodes.append(_constant(graph, tensors[name], grids))
    known = {tensor.name for tensor in graph.initializer} | {port.name for port in graph.input} | {""}
    del graph.node[:]
    del graph.value_info[:]
    while nodes:
        ready = [node for node in nodes if known.issuperset(node.input)]
        assert ready, "a loop, or a tensor that nothing makes"
        graph.node.extend(ready)
        known |= {name for node in ready for name in node.output}
        nodes = [node for node in nodes if not known.issuperset(node.output)]


def _activation(
    graph: onnx.GraphProto, name: str, grid: dict[str, Any], exact: Sequence[str]
) -> list[onnx.NodeProto]:
    """Nodes that round the tensor `name`, whose readers then read what was rounded."""
    assert set(grid) == KEYS
    assert (grid["dtype"], grid["is_symmetric"]) == ("int", "False")
    assert np.isclose(grid["min"], grid["scale"] * grid["offset"])
    assert np.isclose(grid["max"], grid["scale"] * (grid["offset"] + 2 ** grid["bitwidth"] - 1))
    kind = UNSIGNED[grid["bitwidth"]]
    readers = [node for node in graph.node if name in node.input]
    port = next((one for one in (*graph.input, *graph.output) if one.name == name), None)
    if not readers and port is None:
        fail(f"ERROR - no tensor {name} in the graph")
    outside = port is not None and name not in exact
    if outside:
        port.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    before, levels, after = name, f"{name}__levels", f"{name}__rounded"
    if name in [one.name for one in graph.output]:
        before = f"{name}__before"
        for node in graph.node:
            node.output[:] = [before if made == name else made for made in node.output]
        levels, after = (name, after) if outside else (levels, name)
    elif outside:
        levels = name
    for node in readers:
        node.input[:] = [after if read == name else read for read in node.input]
    parts = _stored(graph, name, np.float32(grid["scale"]), kind(-grid["offset"]))
    rounding = [helper.make_node("QuantizeLinear", [before, *parts], [levels])] if before != levels else []
    return [*rounding, helper.make_node("DequantizeLinear", [levels, *parts], [after])]


def _constant(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, grids: list[dict[str, Any]]
) -> onnx.NodeProto:
    """Store a constant in integers; the node that reads it. Several grids are those of its output channels."""
    assert all(set(one) == KEYS for one in grids)
    array, bits = numpy_helper.to_array(tensor).astype(np.float64), grids[0]["bitwidth"]
    signed = grids[0]["is_symmetric"] == "True"
    low, kind = (2 ** (bits - 1), SIGNED[bits]) if signed else (0, UNSIGNED[bits])
    reader = next(node for node in graph.node if tensor.name in node.input)
    is_first = reader.op_type == "Conv" or list(reader.input).index(tensor.name) == 2
    axis = 0 if is_first else array.ndim - 1
    scale, offset = (np.array([one[key] for one in grids]) for key in ("scale", "offset"))
    shape = [-1 if place == axis else 1 for place in range(array.ndim)] if len(grids) > 1 else []
    levels = np.rint(array / scale.reshape(shape)) - offset.reshape(shape) - low
    if levels.min() < -low or levels.max() >= 2.0**bits - low:
        fail(f"ERROR - {tensor.name} does not fit its encoding")
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(levels.astype(kind), f"{tensor.name}__q"))
    zero = (-offset - low).astype(kind)
    ends = (scale.astype(np.float32), zero) if shape else (np.float32(scale[0]), kind(zero[0]))
    parts, attributes = _stored(graph, tensor.name, *ends), {"axis": axis} if shape else {}
    return helper.make_node("DequantizeLinear", [f"{tensor.name}__q", *parts], [tensor.name], **attributes)


def _stored(graph: onnx.GraphProto, name: str, scale: Any, zero: Any) -> list[str]:
    parts = {f"{name}__scale": scale, f"{name}__zero": zero}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), key) for key, array in parts.items())
    return list(parts)
