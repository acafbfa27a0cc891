"""Adds nodes at the beginning or the end of a finished graph, with names that tell that they belong to a layout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir


class Additions:
    """Nodes named `<prefix>/...` for `graph`, before all that it has; after `continue_at_end` behind them."""

    def __init__(self, graph: ir.Graph, prefix: str = "layout") -> None:
        self._graph, self._prefix = graph, prefix
        self._first = next(iter(graph))
        self._used: Counter[str] = Counter()
        self._at_end = False

    def continue_at_end(self) -> None:
        """From here on nodes are added behind those that the graph has."""
        self._at_end = True

    def op(
        self, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Add a node; gives its outputs."""
        self._used[op_type] += 1
        name = f"{self._prefix}/{op_type}_{self._used[op_type]}"
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}_output_{index}"
        if self._at_end:
            self._graph.append(node)
        else:
            self._graph.insert_before(self._first, node)
        return tuple(node.outputs)

    def one(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Add a node with one output; gives that."""
        return self.op(op_type, *inputs, **attributes)[0]

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector."""
        return self.constant("x".join(map(str, values)), np.array(values, np.int64))

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """A small constant, stored once under its name."""
        full = f"{self._prefix}/{name}"
        if full not in self._graph.initializers:
            value = ir.Value(name=full, const_value=ir.tensor(array, name=full))
            value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
            self._graph.initializers[full] = value
        return self._graph.initializers[full]

    def slice(self, value: ir.Value, begin: ir.Value, end: ir.Value, axis: int) -> ir.Value:
        """`value` from `begin` to `end` (int64 vectors of one element) along `axis`."""
        return self.one("Slice", value, begin, end, self.ints(axis))
