"""Writes QuantizeLinear and DequantizeLinear around the operators of a static graph: the form that NPU compilers read.

Every activation is rounded to a grid of its own right after it is made, weights and constants are stored in integers.
An operator whose bits differ from those of its input gets a second pair on the way. Caches cross the graph's border in
integers, since the next graph reads them on the same grid; all other ports stay float, rounded inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import add_initializer, is_constant, new_node
from pocket_opt.onnx_graphs.qdq_constants import Constants
from pocket_opt.onnx_graphs.static_precision import Scheme
from pocket_opt.onnx_graphs.static_values import CACHES, MOVING, activations, as_float, is_float

OPSET = 21
"""The first with 16-bit and 4-bit levels in QuantizeLinear and DequantizeLinear."""
DTYPES = {16: ir.DataType.UINT16, 8: ir.DataType.UINT8}


def quantize(graph: ir.Graph, scheme: Scheme) -> dict[str, Any]:
    """Rewrite `graph`, whose types and shapes are complete, in place; counts of what was rounded, and to what."""
    writer = _Writer(graph, scheme)
    graph.opset_imports[""] = max(graph.opset_imports[""], OPSET)
    nodes, values = list(graph), activations(graph)
    for node in nodes:
        writer.settle(node)
    constants = writer.quantize_constants(nodes)
    for value in values:
        writer.quantize_activation(value)
    return {
        "tensors": sum(constants.values()),
        "weights": dict(sorted(constants.items())),
        **writer.report(),
    }


class _Writer:
    """Writes nodes into a graph; a value or constant that several operators share is rounded once."""

    def __init__(self, graph: ir.Graph, scheme: Scheme) -> None:
        self._graph, self._scheme = graph, scheme
        self._bits: dict[ir.Node, int | None] = {}
        self._outputs = {id(value) for value in graph.outputs}
        self._counts: Counter[str] = Counter()

    def settle(self, node: ir.Node) -> None:
        """Decide the bits of `node`; those before it are settled."""
        if node.op_type not in MOVING:
            self._bits[node] = self._scheme.precision(node).activations
            return
        given = [self._own_bits(value) for value in node.inputs if is_float(value) and not is_constant(value)]
        self._bits[node] = max((bits for bits in given if bits is not None), default=None)

    def _own_bits(self, value: ir.Value | None) -> int | None:
        """The bits in which `value` is made."""
        assert value is not None
        producer = value.producer()
        if producer is not None:
            return self._bits[producer]
        if self._is_cache(value):
            return self._scheme.caches
        wanted = [self._bits[node] for node in value.consumers() if node in self._bits]
        return max((bits for bits in wanted if bits is not None), default=16)

    def _is_cache(self, value: ir.Value) -> bool:
        port = value.producer() is None or id(value) in self._outputs
        return port and str(value.name).startswith(CACHES)

    def quantize_constants(self, nodes: Sequence[ir.Node]) -> Counter[str]:
        """Store the float constants that quantized nodes read in integers; how many in which type."""
        constants = Constants(self._graph, self._scheme)
        for node in nodes:
            if bits := self._bits[node]:
                constants.quantize(node, bits)
        return constants.counts

    def quantize_activation(self, value: ir.Value) -> None:
        """Round `value` to its grid, for everything that reads it and for the host."""
        readers = [(use.node, use.idx) for use in value.uses()]
        given, bits = id(value) in self._outputs, self._own_bits(value)
        if self._is_cache(value) and not given:
            made = self._port_in(value)
            bits = self._scheme.caches
        else:
            made = value if bits is None else self._pair(value, bits)
        forms: dict[int | None, ir.Value] = {bits: made, None: made}
        for node, index in readers:
            wanted = self._wanted(node, index, bits)
            if wanted not in forms:
                forms[wanted] = self._pair(made, wanted or 16, source=value, suffix=f".u{wanted}")
            node.replace_input_with(index, forms[wanted])
        if given:
            self._port_out(value, made, bits)

    def _wanted(self, node: ir.Node, index: int, own: int | None) -> int | None:
        """The bits in which `node` reads an input. The right side of a product may be coarser than the left."""
        if node.op_type == "MatMul" and index == 1 and own == 8:
            return own
        return self._bits[node]

    def _pair(
        self, value: ir.Value, bits: int, *, source: ir.Value | None = None, suffix: str = ""
    ) -> ir.Value:
        """`value` through QuantizeLinear and DequantizeLinear; `source` is the value whose grid it has."""
        source = source or value
        levels = self._quantized(value, source, bits, suffix)
        return self._read(levels, source, bits, suffix)

    def _quantized(self, value: ir.Value, source: ir.Value, bits: int, suffix: str) -> ir.Value:
        producer = value.producer()
        node = new_node(f"{source.name}{suffix}", "QuantizeLinear", [value, *self._grid_of(source, bits)])
        if producer is None:
            self._graph.insert_before(next(iter(self._graph)), node)
        else:
            self._graph.insert_after(producer, node)
        levels = node.outputs[0]
        levels.name = f"{source.name}{suffix}.levels"
        levels.dtype, levels.shape = DTYPES[bits], source.shape
        self._counts[f"uint{bits}"] += 1
        return levels

    def _read(self, levels: ir.Value, source: ir.Value, bits: int, suffix: str) -> ir.Value:
        node = new_node(f"{source.name}{suffix}", "DequantizeLinear", [levels, *self._grid_of(source, bits)])
        producer = levels.producer()
        if producer is None:
            self._graph.insert_before(next(iter(self._graph)), node)
        else:
            self._graph.insert_after(producer, node)
        return as_float(node, f"{source.name}{suffix}.float", source.shape)

    def _grid_of(self, source: ir.Value, bits: int) -> list[ir.Value]:
        """Scale and zero point of the grid of `source`."""
        name = f"{source.name}.u{bits}"
        grid = self._scheme.grid(str(source.name), bits)
        parts = {
            "scale": np.array(grid.scale, np.float32),
            "zero_point": np.array(grid.zero_point, grid.dtype),
        }
        known = self._graph.initializers
        return [
            known[f"{name}.{part}"]
            if f"{name}.{part}" in known
            else add_initializer(self._graph, f"{name}.{part}", array)
            for part, array in parts.items()
        ]

    def _port_in(self, value: ir.Value) -> ir.Value:
        """A cache comes in as levels."""
        made = self._read(value, value, self._scheme.caches, "")
        value.dtype = DTYPES[self._scheme.caches]
        return made

    def _port_out(self, value: ir.Value, made: ir.Value, bits: int | None) -> None:
        """What the host gets under the name of `value`: levels of a cache, else rounded floats."""
        told = made
        if self._is_cache(value):
            if bits != self._scheme.caches:
                made = self._pair(made, self._scheme.caches, source=value, suffix=f".u{self._scheme.caches}")
            reader = made.producer()
            assert reader is not None
            told = reader.inputs[0] or made
        if told is value:
            return
        name = str(value.name)
        value.name = f"{name}.exact"
        told.name = name
        self._graph.outputs[[id(output) for output in self._graph.outputs].index(id(value))] = told

    def report(self) -> dict[str, Any]:
        """Counts by kind and bits."""
        return {
            "nodes": sum(bits is not None for bits in self._bits.values()),
            "activations": dict(sorted(self._counts.items())),
        }
