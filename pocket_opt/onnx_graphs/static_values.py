"""What static quantization has to know of a graph: its float values, which of them share a grid, and where masks are.

Operators that only move data (Reshape, Slice, Concat ...) have one grid for what they read and write, so that no level
changes on the way and compilers need not rescale. A grid is also shared between graphs: the rows of a cache that one
graph writes are read by another as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import add_initializer, constant, is_constant
from pocket_opt.onnx_graphs.ranges import MASKED_BELOW

MOVING = frozenset(
    ("Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose")
) | {"Unsqueeze"}
"""Operators that move data and compute nothing."""
COMPUTING = frozenset(
    ("Add", "Conv", "Div", "Erf", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pow")
) | {"ReduceMean", "Relu", "Sigmoid", "Softmax", "Sqrt", "Sub", "Tanh"}
"""Operators that ONNX Runtime and the compilers of NPUs know in integers."""
IR_VERSION = 10
"""For a model that is made only to infer shapes."""
CACHES = ("past_", "new_", "cross_")
"""Ports of caches, which go from graph to graph."""
TEXT = frozenset({"prefill", "decoder"})
"""Graphs of the decoder: they hold the same weights, and what one value is in the one it is in the other."""

Role = Literal["weight", "bias", "scale", "shift", "table", "operand"]
ROLES: Mapping[str, Mapping[int, Role]] = {
    "Conv": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {1: "weight"},
    "LayerNormalization": {1: "scale", 2: "shift"},
    "Gather": {0: "table"},
}
"""Operator -> input -> what a constant there is; elsewhere it is an operand like any activation."""


def is_float(value: ir.Value | None) -> bool:
    """Whether `value` holds float32."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def as_float(node: ir.Node, name: str, shape: ir.Shape | None) -> ir.Value:
    """The one output of `node`, called `name`, float32 of `shape`."""
    value = node.outputs[0]
    value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, shape
    return value


def complete(graph: ir.Graph) -> ir.Graph:
    """`graph` with the types and shapes of all values, and with transposed constants stored transposed.

    The output head reads the token embedding through a Transpose; as a weight it needs levels of its own.
    """
    ShapeInferencePass()(ir.Model(graph, ir_version=IR_VERSION))
    for node in list(graph):
        if node.op_type == "Transpose" and is_constant(node.inputs[0]) and is_float(node.inputs[0]):
            _store_transposed(graph, node)
    return graph


def _store_transposed(graph: ir.Graph, node: ir.Node) -> None:
    source = node.inputs[0]
    assert source is not None
    turned = np.ascontiguousarray(constant(source).transpose(node.attributes.get_ints("perm", None)))
    value = add_initializer(graph, f"{source.name}.transposed", turned)
    ir.convenience.replace_all_uses_with(node.outputs[0], value)
    graph.remove(node, safe=True)


def float_nodes(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that compute or move floats."""
    return [node for node in graph if any(is_float(value) for value in (*node.inputs, *node.outputs))]


def activations(graph: ir.Graph) -> list[ir.Value]:
    """The float values that depend on the graph's inputs: these, and what nodes make."""
    made = [value for node in graph for value in node.outputs]
    return [value for value in (*graph.inputs, *made) if is_float(value) and not is_constant(value)]


def require_static(artifact: Artifact, components: Iterable[str]) -> None:
    """Raise PocketOptError for a port with a dimension that is open."""
    for name in components:
        part = artifact.components[name]
        for port in (*part.inputs, *part.outputs):
            if any(isinstance(size, str) for size in port.shape):
                raise PocketOptError(
                    f"the port '{port.name}' has dimensions that are open: {list(port.shape)}",
                    where=f"component {name}",
                    allowed="fixed shapes: scales are found, and NPUs are compiled for, one shape",
                    fix="export with decoder=static",
                )


def require_quantizable(graph: ir.Graph, spared: Iterable[ir.Node]) -> None:
    """Raise PocketOptError for an operator that has no integer form, and that is not `spared` by an override."""
    left = set(spared)
    for node in float_nodes(graph):
        if node not in left and (node.domain or node.op_type not in MOVING | COMPUTING):
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise PocketOptError(
                f"the operator {kind} of node '{node.name}' cannot be quantized",
                where=f"component {graph.name}",
                allowed=", ".join(sorted(MOVING | COMPUTING)),
                fix=f"rewrite it before, or leave it float: overrides {{'{node.name}': {{bits: none}}}}",
            )


class Groups:
    """Sets of values that share a grid, over several graphs. A value is known by graph and name."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def find(self, component: str, name: str) -> str:
        """The set of a value."""
        return self._root(_key(component, name))

    def add(self, component: str, graph: ir.Graph) -> None:
        """Join what nodes of `graph` move, and its caches with those of other graphs."""
        for value in (*graph.inputs, *graph.outputs):
            if str(value.name).startswith(CACHES):
                self._join(_key(component, str(value.name)), cache_name(str(value.name)))
        for node in graph:
            if node.op_type in MOVING and not node.domain:
                moved = [value for value in (*node.inputs, *node.outputs) if is_float(value)]
                keys = [_key(component, str(value.name)) for value in moved if not is_constant(value)]
                for key in keys[1:]:
                    self._join(keys[0], key)

    def _root(self, key: str) -> str:
        while (parent := self._parents.setdefault(key, key)) != key:
            key = parent
        return key

    def _join(self, one: str, other: str) -> None:
        self._parents[self._root(other)] = self._root(one)


def cache_name(port: str) -> str:
    """What a cache is called by all graphs: `past_key_0` and `new_key_0` are one."""
    return f"cache/{port.removeprefix('past_').removeprefix('new_')}"


def _key(component: str, name: str) -> str:
    return f"{'text' if component in TEXT else component}/{name}"


def masks(graph: ir.Graph) -> tuple[set[str], dict[str, str]]:
    """The values that are masks alone; and sums of scores and a mask, with the name of that mask.

    A mask is a float input called so, or a constant with values below `MASKED_BELOW`.
    """
    pure = {str(value.name) for value in graph.inputs if is_float(value) and "mask" in str(value.name)}
    pure |= {name for name, value in graph.initializers.items() if _is_mask(value)}
    sums: dict[str, str] = {}
    for node in graph:
        names = [str(value.name) for value in node.inputs if value is not None]
        found = [name for name in names if name in pure]
        output = str(node.outputs[0].name)
        if found and node.op_type in MOVING:
            pure.add(output)
        elif found and node.op_type == "Add":
            sums[output] = found[0]
        elif node.op_type in MOVING and (added := [name for name in names if name in sums]):
            sums[output] = sums[added[0]]
    return pure, sums


def _is_mask(value: ir.Value) -> bool:
    if not is_float(value) or value.const_value is None or value.const_value.size > 1 << 22:
        return False
    return bool((constant(value) < MASKED_BELOW).any())
