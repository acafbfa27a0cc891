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

    def __init__(self, name: str, *, around: GraphBuilder | None = None) -> None:
        imports = {"": OPSET} if around is None else {}
        self.graph = ir.Graph((), (), nodes=(), opset_imports=imports, name=name)
        self._root: GraphBuilder = self if around is None else around._root
        self._scopes: list[str] = [around.module] if around is not None and around.module else []
        self._used: Counter[str] = Counter() if around is None else around._used

    def body(self, name: str) -> GraphBuilder:
        """A builder for a graph inside this one (of Loop or If), which may read its values and stores weights here."""
        return GraphBuilder(name, around=self)

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

    def input(
        self,
        name: str,
        dtype: ir.DataType,
        shape: Sequence[int | str],
        *,
        default: ir.TensorProtocol | None = None,
    ) -> ir.Value:
        """Add a graph input; a symbolic dimension is a string. Callers may leave out one with a `default`."""
        value = ir.val(name, dtype, shape)
        self._used[name] += 1  # no value that is moved in may have this name
        self.graph.inputs.append(value)
        if default is not None:
            default.name, value.const_value = name, default
            self.graph.register_initializer(value)
        return value

    def output(
        self,
        value: ir.Value,
        name: str,
        shape: Sequence[int | str],
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> None:
        """Make `value` the graph output `name`."""
        value.name = name
        self.graph.outputs.append(shaped(value, shape, dtype))

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Add a node with one output, named after the current module and its operator type."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        """Add a node with several outputs."""
        name = self.unique(f"{self.module}/{op_type}")
        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=outputs)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}_output" + (f"_{index}" if index else "")
        self.graph.append(node)
        return tuple(node.outputs)

    def weight(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer `name`, added on first use."""
        initializers = self._root.graph.initializers
        if name not in initializers:
            tensor.name = name
            value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype))
            value.const_value = tensor
            self._root.graph.register_initializer(value)
        return initializers[name]

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """A small constant array as initializer `name`."""
        return self.weight(name, ir.tensor(array))

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector, shared by all nodes that need the same one."""
        return self.constant("const/" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: int) -> ir.Value:
        """An int64 scalar, shared like `ints`."""
        return self.constant(f"const/scalar_{value}", np.array(value, np.int64))

    def strings(self, values: Sequence[bytes]) -> ir.Value:
        """A vector of strings. They are bytes: ONNX Runtime takes what is no UTF-8, too."""
        return self.op("Constant", value=string_tensor(values))

    def build(self) -> ir.Model:
        """The finished model."""
        return ir.Model(self.graph, ir_version=IR_VERSION, producer_name="pocket_opt")

    def unique(self, name: str) -> str:
        """`name`, with a number where it was given before; also across the graphs inside this one."""
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}_{self._used[name] - 1}"


def shaped(value: ir.Value, shape: Sequence[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """`value`, stated to be of `shape` and `dtype`: ONNX's own inference cannot find it, and later passes need it."""
    value.dtype, value.shape = dtype, ir.Shape(shape)
    return value


def string_tensor(values: Sequence[bytes]) -> ir.StringTensor:
    """A tensor of `values`, a vector."""
    return ir.StringTensor(values, shape=ir.Shape([len(values)]))


def shape_of(value: ir.Value) -> tuple[int | str, ...]:
    """The stated shape of `value`; ValueError if it has none."""
    if value.shape is None:
        raise ValueError(f"{value.name} has no stated shape")
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
