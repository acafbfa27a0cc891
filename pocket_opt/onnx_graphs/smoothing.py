"""Which linear layers read a layer norm, and the scales that move their inputs' outliers into their weights.

x = norm(..) has columns of very different size, and one 8-bit scale for all of them follows the loudest. Dividing
column j of x by s_j and multiplying row j of every weight that reads x by s_j changes no product, and the division
costs nothing: it is folded into gain and bias of the norm. s_j = max|x_j|^alpha / max|w_j|^(1 - alpha).
Source: Xiao et al., "SmoothQuant", arXiv 2211.10438, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.block_quantization import Floats
from pocket_opt.onnx_graphs.files import add_initializer, constant, is_constant, is_matrix, module_of

PARAMETERS = {
    "LayerNormalization": (1, 2),
    "SkipLayerNormalization": (2, 3),
    "SimplifiedLayerNormalization": (1,),
    "SkipSimplifiedLayerNormalization": (2,),
    "RMSNormalization": (1,),
}
"""Norm -> which of its inputs are gain and bias; its first output is gain * normalized + bias."""

SMALLEST = np.float32(1e-5)
"""Peaks below are no information about a column: padding, or a weight that is 0."""


@dataclass(frozen=True)
class Smoothable:
    """A norm and all that reads it: linear layers with weights [K, N] of their own."""

    norm: ir.Node
    layers: tuple[ir.Node, ...]

    @property
    def source(self) -> str:
        """Name of the value between them."""
        return str(self.norm.outputs[0].name)


def find_smoothable(graph: ir.Graph) -> tuple[list[Smoothable], dict[str, list[str]]]:
    """The norms of `graph` whose readers can be scaled, and the modules of the others by reason."""
    found, left_out = [], dict[str, list[str]]()
    for norm in graph:
        if norm.op_type not in PARAMETERS:
            continue
        layers = tuple(dict.fromkeys(use.node for use in norm.outputs[0].uses()))
        reason = _obstacle(norm, layers)
        if reason:
            left_out.setdefault(reason, []).append(module_of(norm))
        else:
            found.append(Smoothable(norm, layers))
    return found, left_out


def _obstacle(norm: ir.Node, layers: tuple[ir.Node, ...]) -> str:
    """Why the output of `norm` cannot be scaled; empty if it can."""
    places = [place for place in PARAMETERS[norm.op_type] if place < len(norm.inputs)]
    parameters = [norm.inputs[place] for place in places if norm.inputs[place] is not None]
    if not all(map(is_constant, parameters)):
        return "gain or bias is no constant"
    if norm.outputs[0].is_graph_output():
        return "its output leaves the graph"
    if not layers or not all(
        node.op_type == "MatMul" and node.inputs[0] is norm.outputs[0] and is_matrix(node.inputs[1])
        for node in layers
    ):
        return "not only float linear layers read it"
    shared = [node for node in layers for use in _uses(node.inputs[1]) if use not in layers]
    return "a weight belongs to other layers, too" if shared else ""


def _uses(value: ir.Value | None) -> list[ir.Node]:
    return [] if value is None else [use.node for use in value.uses()]


def scales(peak: Floats, weights: list[Floats], alpha: float) -> Floats:
    """s [K] from the peaks of the input's columns [K] and the weights [K, N] that read it; 1 where one says nothing."""
    rows = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    known = (peak > SMALLEST) & (rows > SMALLEST)
    peak, rows = np.where(known, peak, 1), np.where(known, rows, 1)
    return np.asarray(peak**alpha / rows ** (1 - alpha), np.float32)


def fold(graph: ir.Graph, group: Smoothable, factors: Floats) -> None:
    """Divide the norm's output by `factors` [K] and multiply the weights that read it, in place."""
    norm = group.norm
    for place in PARAMETERS[norm.op_type]:
        if place < len(norm.inputs) and norm.inputs[place] is not None:
            _replace(graph, (norm,), place, lambda array: array / factors)
    for weight in dict.fromkeys(node.inputs[1] for node in group.layers):
        readers = tuple(node for node in group.layers if node.inputs[1] is weight)
        _replace(graph, readers, 1, lambda array: array * factors[:, None])


def _replace(
    graph: ir.Graph, readers: tuple[ir.Node, ...], place: int, change: Callable[[Floats], Floats]
) -> None:
    """Give `readers` a changed copy of the initializer at their input `place`; others may read the original."""
    old = readers[0].inputs[place]
    name = f"{module_of(readers[0])}.smooth_{place}"
    new = add_initializer(graph, name, change(constant(old)).astype(np.float32))
    for node in readers:
        node.replace_input_with(place, new)
