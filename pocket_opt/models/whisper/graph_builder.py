"""Builds an ONNX graph node by node, with names that tell the module a node belongs to.

The graphs are written directly from the state dict instead of being traced: bytes are deterministic, shapes are
dynamic by construction, no source paths enter the metadata, and weights are read only when they are saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

OPSET = 20
"""The first opset with Gelu; it is also the one that mobile runtimes read most widely."""
IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and initializers under a stack of scopes, e.g. `encoder.layers.0.self_attn.q_proj/MatMul`."""

    def __init__(self, name: str) -> None:
        self._graph = ir.Graph((), (), nodes=(), opset_imports={"": OPSET}, name=name)
        self._scopes: list[str] = []
        self._used: Counter[str] = Counter()

    @contextmanager
    def scope(self, name: str) -> Iterator[str]:
        """Nodes made inside are named after this module; gives the module's full name."""
        self._scopes.append(name)
        try:
            yield self.module
        finally:
            self._scopes.pop()

    @property
    def module(self) -> str:
        """The full name of the module being built."""
        return ".".join(self._scopes)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        """Add a graph input; a symbolic dimension is a string."""
        value = ir.val(name, dtype, shape)
        self._graph.inputs.append(value)
        return value

    def output(self, value: ir.Value, name: str, shape: Sequence[int | str]) -> None:
        """Make the float32 `value` the graph output `name`."""
        value.name = name
        self._graph.outputs.append(shaped(value, shape))

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node with one output, named after the current module and its operator type."""
        name = self._unique(f"{self.module}/{op_type}")
        node = ir.node(op_type, inputs, attributes, name=name)
        value = node.outputs[0]
        value.name = f"{name}_output"
        self._graph.append(node)
        return value

    def weight(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer `name`, added on first use."""
        if name not in self._graph.initializers:
            tensor.name = name
            value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype))
            value.const_value = tensor
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """A small constant array as initializer `name`."""
        return self.weight(name, ir.tensor(array))

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector, shared by all nodes that need the same one."""
        return self.constant("const/" + "_".join(map(str, values)), np.array(values, np.int64))

    def build(self) -> ir.Model:
        """The finished model."""
        return ir.Model(self._graph, ir_version=IR_VERSION, producer_name="pocket_opt")

    def _unique(self, name: str) -> str:
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}_{self._used[name] - 1}"


def shaped(value: ir.Value, shape: Sequence[int | str]) -> ir.Value:
    """`value`, stated to be float32 of `shape`: what ONNX's own inference cannot find, later passes need to know."""
    value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(shape)
    return value


def shape_of(value: ir.Value) -> tuple[int | str, ...]:
    """The stated shape of `value`; ValueError if it has none."""
    if value.shape is None:
        raise ValueError(f"{value.name} has no stated shape")
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
