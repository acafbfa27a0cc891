"""Quantization as Qualcomm's converters take it: a float graph, and a JSON file with the grid of each tensor.

A pair of QuantizeLinear and DequantizeLinear becomes the grid of the tensor before it; constants become floats again,
with the grids that they lay on. Caches, which cross the graph's border in levels, become float ports with a grid: the
converter leaves such a port in levels unless it is told to preserve its type. A tensor has one grid there, so where it
is rounded a second time, to other bits, that pair stays in the graph, and the converter reads it as what it is.

Source: AIMET, encoding format 0.6.1: the oldest one, so that old converters know it, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import Array, add_initializer, constant, is_constant

VERSION = "0.6.1"
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
Grids = dict[str, list[dict[str, Any]]]


@dataclass
class Encodings:
    """The grids of a graph.

    Attributes:
        activations, params: tensor -> its grid; a constant has one for each output channel.
        levels: ports that are in levels outside.
        kept: names of pairs that stay in the graph.
    """

    activations: Grids = field(default_factory=dict)
    params: Grids = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "version": VERSION,
            "activation_encodings": self.activations,
            "param_encodings": self.params,
        }


def take_out(graph: ir.Graph) -> Encodings:
    """Make `graph` one of floats, in place, and give the grids that it had."""
    found = Encodings()
    for node in list(graph):
        if node.op_type == DEQUANTIZE:
            (_constant if is_constant(node.inputs[0]) else _activation)(graph, node, found)
    for node in list(graph):
        if node.op_type == QUANTIZE and not node.outputs[0].uses():
            _end(graph, node, found)
    return found


def _constant(graph: ir.Graph, node: ir.Node, found: Encodings) -> None:
    """Store what `node` reads as floats, under the name of what it gives."""
    output, levels = node.outputs[0], constant(node.inputs[0])
    scale, zero = _grid(node)
    axis = node.attributes.get_int("axis", 1)
    shape = [-1 if scale.ndim and index == axis else 1 for index in range(levels.ndim)] if scale.ndim else []
    exact = (levels.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
    name, kind = str(output.name), _kind(node)
    output.name = f"{name}.gone"
    floats = add_initializer(graph, name, exact.astype(np.float32))
    output.replace_all_uses_with(floats)
    graph.remove(node, safe=True)
    pairs = zip(scale.ravel(), np.broadcast_to(zero, scale.shape).ravel(), strict=True)
    found.params[name] = [encoding(float(one), int(middle), kind) for one, middle in pairs]


def _activation(graph: ir.Graph, node: ir.Node, found: Encodings) -> None:
    """Let those who read `node` read what was rounded."""
    levels = node.inputs[0]
    assert levels is not None
    producer = levels.producer()
    exact = levels if producer is None else producer.inputs[0]
    assert exact is not None
    grid = [_encoding_of(node)]
    if found.activations.get(str(exact.name), grid) != grid or not _may_go(node, exact):
        found.kept.append(str(node.name))
        return
    found.activations[str(exact.name)] = grid
    if producer is None:
        found.levels.append(str(exact.name))
        exact.dtype = ir.DataType.FLOAT
    if node.outputs[0].is_graph_output():
        _become_port(graph, node.outputs[0], exact, found)
    node.outputs[0].replace_all_uses_with(exact)
    graph.remove(node, safe=True)


def _may_go(node: ir.Node, exact: ir.Value) -> bool:
    """Whether a port that `node` gives can be `exact` instead: one value is no two ports."""
    is_port = exact.is_graph_output() or exact.is_graph_input()
    return not (node.outputs[0].is_graph_output() and is_port)


def _end(graph: ir.Graph, node: ir.Node, found: Encodings) -> None:
    """Take out a rounding that nothing in the graph reads: it is dead, or gives a port in levels."""
    levels, exact = node.outputs[0], node.inputs[0]
    assert exact is not None
    if levels.is_graph_output():
        grid = [_encoding_of(node)]
        if found.activations.get(str(exact.name), grid) != grid or not _may_go(node, exact):
            found.kept.append(str(node.name))
            return
        found.activations[str(exact.name)] = grid
        found.levels.append(str(levels.name))
        _become_port(graph, levels, exact, found)
    graph.remove(node, safe=True)


def _become_port(graph: ir.Graph, port: ir.Value, exact: ir.Value, found: Encodings) -> None:
    """`exact` takes the place and the name of an output of the graph."""
    name, old = str(port.name), str(exact.name)
    graph.outputs[[id(output) for output in graph.outputs].index(id(port))] = exact
    port.name = f"{name}.gone"
    exact.name = name
    found.activations[name] = found.activations.pop(old)


def _grid(node: ir.Node) -> tuple[Array, Array]:
    """Scale and zero point."""
    scale = constant(node.inputs[1])
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return scale, (np.zeros(scale.shape, np.int64) if zero is None else constant(zero).astype(np.int64))


def _kind(node: ir.Node) -> ir.DataType:
    """The type of the levels, which is that of their zero point."""
    value = node.inputs[2] if len(node.inputs) > 2 else node.inputs[0]
    told = value.const_value if value is not None and value.const_value is not None else value
    if told is None or told.dtype is None:
        raise ValueError(f"the node {node.name} has levels of an unknown type")
    return told.dtype


def _encoding_of(node: ir.Node) -> dict[str, Any]:
    scale, zero = _grid(node)
    return encoding(float(scale), int(zero), _kind(node))


def encoding(scale: float, zero: int, dtype: ir.DataType) -> dict[str, Any]:
    """The grid of levels of type `dtype`: floats are `scale` x (levels from 0 on + offset)."""
    signed, bits = dtype.name.startswith("INT"), dtype.bitwidth
    offset = (-(2 ** (bits - 1)) if signed else 0) - zero
    return {
        "bitwidth": bits,
        "dtype": "int",
        "is_symmetric": str(signed and zero == 0),
        "scale": scale,
        "offset": offset,
        "min": scale * offset,
        "max": scale * (offset + 2**bits - 1),
    }
