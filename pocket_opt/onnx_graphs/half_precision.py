"""Turns a float32 ONNX graph into one that computes in float16, except where that is not safe.

Normalization, Softmax, contributed operators (their float16 kernels differ between devices), conversions to integers
and nodes that read a weight which float16 does not hold stay in float32; ports keep their types. The graph must be
flat and in topological order.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import (
    add_initializer,
    constant,
    is_constant,
    matches,
    module_of,
    new_node,
    remove_initializer,
)

FLOAT32_OPERATORS = frozenset({"LayerNormalization", "Softmax", "DynamicQuantizeLinear", "ReduceMean", "Pow"})

_F32, _F16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
_FLOATS = (_F32, _F16)
_FIXED_RESULTS = {
    **dict.fromkeys(("Shape", "Size", "ArgMax", "NonZero"), ir.DataType.INT64),
    **dict.fromkeys(
        ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Not"), ir.DataType.BOOL
    ),
    "MatMulInteger": ir.DataType.INT32,
}
_TYPED_BY = {"Where": 1, "GatherBlockQuantized": 2}
"""Operators whose result has the type of another input than the first."""


class HalfPrecision:
    """Converts `graph` in place.

    Attributes:
        tensors: weights that became float16.
        nodes_fp16, nodes_fp32: nodes on floats that compute in either.
    """

    def __init__(self, graph: ir.Graph, *, fits: Container[ir.Value], keep: tuple[str, ...]) -> None:
        self.tensors = self.nodes_fp16 = self.nodes_fp32 = 0
        self._graph, self._fits, self._keep = graph, fits, keep
        self._cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        for node in list(graph):
            self._convert(node)
        self._restore_names()
        self._restore_ports()

    def _convert(self, node: ir.Node) -> None:
        wanted = _F32 if self._stays(node) else _F16
        on_floats = False
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in _FLOATS:
                on_floats = True
                node.replace_input_with(index, self._as(value, wanted, node))
        if wanted == _F16:
            on_floats |= _halve_attributes(node)
        self.nodes_fp16 += on_floats and wanted == _F16
        self.nodes_fp32 += on_floats and wanted == _F32
        for position, output in enumerate(node.outputs):
            output.dtype = _result(node, position)

    def _stays(self, node: ir.Node) -> bool:
        """Whether `node` must compute in float32."""
        if node.op_type in FLOAT32_OPERATORS or node.domain or matches(node.name, self._keep):
            return True
        if node.op_type == "Cast" and node.attributes["to"].as_int() not in _FLOATS:
            return True
        weights = [value for value in node.inputs if value is not None and is_constant(value)]
        return any(value.dtype == _F32 and value not in self._fits for value in weights)

    def _as(self, value: ir.Value, wanted: ir.DataType, reader: ir.Node) -> ir.Value:
        """`value` as `wanted`, made once."""
        if value.dtype == wanted:
            return value
        if (value, wanted) not in self._cast:
            self._cast[value, wanted] = self._widened_or_narrowed(value, wanted, reader)
        return self._cast[value, wanted]

    def _widened_or_narrowed(self, value: ir.Value, wanted: ir.DataType, reader: ir.Node) -> ir.Value:
        if is_constant(value):
            self.tensors += wanted == _F16
            return add_initializer(
                self._graph, f"{value.name}.{wanted.name}", constant(value).astype(wanted.numpy())
            )
        cast = new_node(module_of(reader), "Cast", [value], {"to": wanted.value}, suffix=f"_{wanted.name}")
        cast.outputs[0].dtype = wanted
        self._graph.insert_before(reader, cast)
        return cast.outputs[0]

    def _restore_names(self) -> None:
        """A converted weight takes the name of the original where nothing reads that any more."""
        for (value, _), made in self._cast.items():
            if is_constant(value) and not value.uses():
                name = value.name
                remove_initializer(self._graph, value)
                made.name = name

    def _restore_ports(self) -> None:
        for index, value in enumerate(self._graph.outputs):
            if value.dtype != _F16:
                continue
            cast = new_node(f"{value.name}", "Cast", [value], {"to": _F32.value})
            port = cast.outputs[0]
            port.name, port.dtype, port.shape = value.name, _F32, value.shape
            value.name = f"{value.name}.{_F16.name}"
            self._graph.append(cast)
            self._graph.outputs[index] = port


def _halve_attributes(node: ir.Node) -> bool:
    """Make the float32 type or tensor in the attributes of `node` float16; returns whether there was one."""
    target = node.attributes.get("to")
    if node.op_type == "Cast" and target is not None and target.as_int() == _F32:
        node.attributes["to"] = ir.AttrInt64("to", _F16.value)
        return True
    held = node.attributes.get("value")
    if held is None or held.type != ir.AttributeType.TENSOR or held.as_tensor().dtype != _F32:
        return False
    limit = np.finfo(np.float16).max
    array = np.clip(held.as_tensor().numpy(), -limit, limit).astype(np.float16)
    node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array))
    return True


def _result(node: ir.Node, position: int) -> ir.DataType | None:
    """The type of output `position` of `node`; all other operators here pass on the type of their first input."""
    if node.op_type == "Cast":
        return ir.DataType(node.attributes["to"].as_int())
    if node.op_type in ("Constant", "ConstantOfShape"):
        held = node.attributes.get("value")
        return _F32 if held is None else held.as_tensor().dtype
    if node.op_type == "DynamicQuantizeLinear":
        return _F32 if position == 1 else ir.DataType.UINT8
    if node.op_type in _FIXED_RESULTS:
        return _FIXED_RESULTS[node.op_type]
    source = node.inputs[_TYPED_BY.get(node.op_type, 0)]
    return None if source is None else source.dtype
