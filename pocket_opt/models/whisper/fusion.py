"""How a rewrite rule is applied to a graph, and the rules around projections: BiasGelu, SkipLayerNormalization.

A rule looks at every node of one type, applies where the whole pattern is there, and says why where it is not (as the
rewriter of onnxscript does). Weights stay visible as the constant right sides of MatMul, because quantization comes
after fusion; hence MultiHeadAttention and never the packed Attention operator, which swallows its projections.
Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from pocket_opt.onnx_graphs.files import CONTRIB, is_constant, module_of, new_node, replace_node


class NotHere(str):
    """Why a rule does not apply to a node."""

    __slots__ = ()


@dataclass(frozen=True)
class Rule:
    """Looks at every node of type `anchor`; `rewrite` replaces its pattern or tells why it does not."""

    anchor: str
    rewrite: Callable[[ir.Node], NotHere | None]

    def apply(self, graph: ir.Graph) -> dict[str, Any]:
        """Rewrite `graph`; gives how often the rule applied, and the anchors left alone by reason."""
        anchors = [node for node in graph if node.op_type == self.anchor]
        reasons = Counter(str(reason) for reason in map(self.rewrite, anchors) if reason is not None)
        left_out = dict(reasons) if anchors else {f"the graph has no {self.anchor}": 0}
        return {"applied": len(anchors) - reasons.total(), "left_out": left_out}


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that computes `value` if it is of `op_type`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def used_once(value: ir.Value) -> bool:
    """Whether exactly one node reads `value` and no caller does."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def constant_ints(value: ir.Value | None) -> tuple[int, ...] | None:
    """The integers of a constant vector."""
    if value is None or value.const_value is None or not is_constant(value):
        return None
    return tuple(int(number) for number in value.const_value.numpy().reshape(-1))


def projection_and_bias(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """The parts of `value` = x @ W + bias, if nothing else reads it."""
    add = producer(value, "Add")
    if value is None or add is None or not used_once(value):
        return None
    product, bias = add.inputs
    if product is None or bias is None or producer(product, "MatMul") is None:
        return None
    return (product, bias) if is_constant(bias) and bias.shape is not None and len(bias.shape) == 1 else None


def fuse_bias_gelu(gelu: ir.Node) -> NotHere | None:
    """x @ W + bias, Gelu -> BiasGelu, for the exact (erf) Gelu."""
    if gelu.attributes.get_string("approximate", "none") != "none":
        return NotHere("it is an approximation")
    parts = projection_and_bias(gelu.inputs[0])
    if parts is None:
        return NotHere("its input is no projection with a bias")
    replace_node(gelu, [new_node(module_of(gelu), "BiasGelu", parts, domain=CONTRIB)])
    return None


def fuse_skip_layer_norm(norm: ir.Node) -> NotHere | None:
    """x + (y @ W + bias), LayerNormalization -> SkipLayerNormalization, which gives the sum, too."""
    add = producer(norm.inputs[0], "Add")
    if add is None:
        return NotHere("its input is no sum")
    left, right = add.inputs
    if left is None or right is None or left.shape is None or left.shape != right.shape:
        return NotHere("the summands are not known to have the same shape")
    projection, bias = projection_and_bias(right) or (right, None)
    inputs = [projection, left, *norm.inputs[1:3], bias]
    fused = new_node(module_of(norm), "SkipLayerNormalization", inputs, domain=CONTRIB, outputs=4)
    fused.attributes.add(ir.AttrFloat32("epsilon", norm.attributes.get_float("epsilon", 1e-5)))
    for unused in fused.outputs[1:3]:
        unused.name = ""
    assert norm.graph is not None
    old, new = (norm.outputs[0], add.outputs[0]), (fused.outputs[0], fused.outputs[3])
    ir.convenience.replace_nodes_and_values(norm.graph, norm, [norm, add], [fused], old, new)
    return None
