"""Attention as one operator: softmax(q k^T + mask) v with its splitting and joining of heads -> MultiHeadAttention.

It reads [batch, length, d_model] and splits heads itself; a cache [batch, heads, keys, head_dim] it reads as it is and
appends to; the scores of a long audio never reach memory. Measured in ../../passes/fuse.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pocket_opt.models.whisper.decoder_graph import MASKED
from pocket_opt.models.whisper.fusion import NotHere, constant_ints, producer, used_once
from pocket_opt.onnx_graphs.files import CONTRIB, module_of, new_node

TO_HEADS = (0, 2, 1, 3)
SWAP_LAST = (0, 1, 3, 2)


@dataclass(frozen=True)
class Cache:
    """The keys and values [batch, heads, past, head_dim] before this call, and with this call's appended."""

    past: tuple[ir.Value, ir.Value]
    present: tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class Attention:
    """The parts of an attention in a graph.

    Attributes:
        query: [batch, length, d_model].
        key, value: [batch, keys, d_model], or [batch, heads, keys, head_dim] where they come in split.
        joined: the node whose output [batch, length, d_model] is the result.
    """

    heads: int
    query: ir.Value
    key: ir.Value
    value: ir.Value
    causal: bool
    cache: Cache | None
    joined: ir.Node


@dataclass(frozen=True)
class Split:
    """A value [batch, length, d_model] that was split into heads."""

    whole: ir.Value
    heads: int


def fuse_attention(softmax: ir.Node) -> NotHere | None:
    """Put MultiHeadAttention in the place of the attention around `softmax`; nodes left unused stay for clean-up."""
    found = match_attention(softmax)
    if isinstance(found, NotHere):
        return found
    node = _fused(found, module_of(softmax))
    old = [found.joined.outputs[0], *(found.cache.present if found.cache else ())]
    assert softmax.graph is not None
    ir.convenience.replace_nodes_and_values(
        softmax.graph, found.joined, [found.joined], [node], old, node.outputs
    )
    return None


def match_attention(softmax: ir.Node) -> Attention | NotHere:
    """The attention around `softmax`, or what is missing."""
    scores, causal = softmax.inputs[0], False
    masked = producer(scores, "Add")
    if masked is not None:
        if producer(masked.inputs[1], "Trilu") is None:
            return NotHere("its mask is not the causal one")
        scores, causal = masked.inputs[0], True
    product, after = producer(scores, "MatMul"), _after(softmax)
    if product is None or after is None:
        return NotHere("it does not stand between q k^T and a product with values that is joined")
    query, turned = _split(product.inputs[0]), producer(product.inputs[1], "Transpose")
    if query is None or turned is None or _order(turned) != SWAP_LAST:
        return NotHere("its queries are not split into heads, or its keys not transposed")
    mixed, joined = after
    key, value, cache = _without_cache(_input(turned, 0), _input(mixed, 1))
    pair = _sources(key, value, causal=causal)
    if isinstance(pair, NotHere):
        return pair
    return Attention(query.heads, query.whole, *pair, causal, cache, joined)


def _fused(found: Attention, module: str) -> ir.Node:
    inputs: list[ir.Value | None] = [found.query, found.key, found.value]
    if found.cache is not None:
        inputs += [None, None, None, *found.cache.past]
    outputs = 1 if found.cache is None else 3
    node = new_node(module, "MultiHeadAttention", inputs, domain=CONTRIB, outputs=outputs)
    attributes = [ir.AttrInt64("num_heads", found.heads), ir.AttrFloat32("scale", 1.0)]
    if found.causal:
        attributes += [ir.AttrInt64("unidirectional", 1), ir.AttrFloat32("mask_filter_value", MASKED)]
    for attribute in attributes:
        node.attributes.add(attribute)
    return node


def _without_cache(key: ir.Value, value: ir.Value) -> tuple[ir.Value, ir.Value, Cache | None]:
    """This call's keys and values, and the cache that they are appended to, if there is one."""
    keys, values = producer(key, "Concat"), producer(value, "Concat")
    if keys is None or values is None:
        return key, value, None
    cache = Cache((_input(keys, 0), _input(values, 0)), (key, value))
    return _input(keys, 1), _input(values, 1), cache


def _sources(key: ir.Value, value: ir.Value, *, causal: bool) -> tuple[ir.Value, ir.Value] | NotHere:
    """Keys and values before they were split into heads, or as they come in."""
    keys, values = _split(key), _split(value)
    if keys is not None and values is not None:
        return keys.whole, values.whole
    if not causal and key.is_graph_input() and value.is_graph_input():
        return key, value
    return NotHere("its keys or values are neither split into heads nor inputs of the graph")


def _after(softmax: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The product with the values, and the Reshape that joins the heads."""
    nodes = []
    value = softmax.outputs[0]
    for op_type in ("MatMul", "Transpose", "Reshape"):
        if not used_once(value) or value.consumers()[0].op_type != op_type:
            return None
        nodes.append(value.consumers()[0])
        value = nodes[-1].outputs[0]
    return nodes[0], nodes[2]


def _split(value: ir.Value | None) -> Split | None:
    """What `value` [batch, heads, length, head_dim] was before it was split."""
    transpose = producer(value, "Transpose")
    if transpose is None or _order(transpose) != TO_HEADS:
        return None
    reshape = producer(transpose.inputs[0], "Reshape")
    if reshape is None:
        return None
    sizes = constant_ints(reshape.inputs[1]) or ()
    return Split(_input(reshape, 0), sizes[2]) if len(sizes) == 4 and sizes[:2] == (0, 0) else None


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _order(transpose: ir.Node) -> tuple[int, ...]:
    return tuple(transpose.attributes.get_ints("perm") or ())
