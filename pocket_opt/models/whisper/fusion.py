"""Rewrites that give ONNX Runtime fewer and larger operators without changing what is computed.

A rule looks at one kind of node, applies where the whole pattern is there, and says why where it is not (as the rewriter of
onnxscript does). Weights stay visible as the constant right sides of MatMul, because quantization comes after fusion;
that is why attention becomes MultiHeadAttention and never the packed Attention operator, which swallows its projections.
Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from pocket_opt.onnx_files import CONTRIB, is_constant, module_of, new_node, replace_node

NotHere = str
"""Why a rule does not apply to a node."""

Rewrite = Callable[[ir.Node], NotHere | None]


@dataclass(frozen=True)
class Rule:
    """Looks at every node of type `anchor`; `rewrite` replaces it or tells why not."""

    anchor: str
    rewrite: Rewrite

    def apply(self, graph: ir.Graph) -> tuple[int, Mapping[str, int]]:
        """How many times the rule applied to `graph`, and the other anchors by reason."""
        reasons: Counter[str] = Counter()
        nodes = [node for node in graph if node.op_type == self.anchor]
        for node in nodes:
            reason = self.rewrite(node)
            if reason is not None:
                reasons[reason] += 1
        return len(nodes) - reasons.total(), dict(reasons)


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes `value` if it is of `op_type`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def used_once(value: ir.Value) -> bool:
    """Whether exactly one node reads `value` and no caller does."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant vector, or None."""
    if not is_constant(value) or value is None or value.const_value is None:
        return None
    return [int(number) for number in value.const_value.numpy().reshape(-1)]


def is_vector(value: ir.Value | None) -> bool:
    """Whether `value` is a constant vector, e.g. a bias."""
    return is_constant(value) and value is not None and value.shape is not None and len(value.shape) == 1


def projection_and_bias(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """The parts of `value` = projection + bias if nothing else reads it."""
    add = producer(value, "Add")
    if add is None or not used_once(value) or add.inputs[0] is None or add.inputs[1] is None:
        return None
    if producer(add.inputs[0], "MatMul") is None or not is_vector(add.inputs[1]):
        return None
    return add.inputs[0], add.inputs[1]


def bias_gelu(gelu: ir.Node) -> NotHere | None:
    """Add(x, bias) + Gelu -> BiasGelu, for the exact (erf) Gelu."""
    if gelu.attributes.get_string("approximate", "none") != "none":
        return "the Gelu is an approximation"
    parts = projection_and_bias(gelu.inputs[0]) if gelu.inputs[0] is not None else None
    if parts is None:
        return "its input is no projection with a bias"
    replace_node(gelu, [new_node(module_of(gelu), "BiasGelu", parts, domain=CONTRIB)])
    return None


def skip_layer_norm(norm: ir.Node) -> NotHere | None:
    """Add(x, projection + bias) + LayerNormalization -> SkipLayerNormalization, which also gives the sum."""
    add = producer(norm.inputs[0], "Add")
    if add is None:
        return "its input is no sum"
    left, right = add.inputs
    if left is None or right is None or not _same_shape(left, right):
        return "the summands are not known to have the same shape"
    fused = _skip_layer_norm_node(norm, left, right)
    result, total = fused.outputs[0], fused.outputs[3]
    total.name, total.dtype, total.shape = add.outputs[0].name, add.outputs[0].dtype, add.outputs[0].shape
    assert norm.graph is not None
    ir.convenience.replace_nodes_and_values(
        norm.graph, norm, [norm, add], [fused], [norm.outputs[0], add.outputs[0]], [result, total]
    )
    return None


def _skip_layer_norm_node(norm: ir.Node, left: ir.Value, right: ir.Value) -> ir.Node:
    parts = projection_and_bias(right)
    inputs: list[ir.Value | None] = [right, left, *norm.inputs[1:3]]
    if parts is not None:
        inputs = [parts[0], left, *norm.inputs[1:3], parts[1]]
    fused = new_node(module_of(norm), "SkipLayerNormalization", inputs, domain=CONTRIB, outputs=4)
    fused.attributes.add(ir.AttrFloat32("epsilon", norm.attributes.get_float("epsilon", 1e-5)))
    for unused in fused.outputs[1:3]:
        unused.name = ""
    return fused


def _same_shape(left: ir.Value, right: ir.Value) -> bool:
    return left.shape is not None and left.shape == right.shape
