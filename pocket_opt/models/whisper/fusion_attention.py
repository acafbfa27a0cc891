"""The three attentions of a Whisper as one operator each: self-attention, cross-attention, and cached self-attention.

MultiHeadAttention reads [batch, length, d_model] and splits heads itself, so the reshapes and transposes go; it reads a
cache [batch, heads, keys, head_dim] as it is, appends to it, and never writes the scores of a long audio to memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pocket_opt.models.whisper.decoder_graph import MASKED
from pocket_opt.models.whisper.fusion import NotHere, constant_ints, producer, used_once
from pocket_opt.onnx_files import CONTRIB, module_of, new_node

TO_HEADS = (0, 2, 1, 3)
SWAP_LAST = (0, 1, 3, 2)


@dataclass(frozen=True)
class Attention:
    """The parts of `Reshape(Transpose(softmax(q k^T + mask) v))`.

    Attributes:
        query: [batch, length, d_model].
        key, value: [batch, keys, d_model], or [batch, heads, keys, head_dim] if they come from a cache.
        past: the cache that this call's keys and values are appended to.
        present: the grown cache.
    """

    heads: int
    query: ir.Value
    key: ir.Value
    value: ir.Value
    causal: bool
    past: tuple[ir.Value, ir.Value] | None
    present: tuple[ir.Value, ir.Value] | None
    result: ir.Node


@dataclass(frozen=True)
class Split:
    """[batch, length, d_model] split into heads."""

    whole: ir.Value
    heads: int


def self_attention(softmax: ir.Node) -> NotHere | None:
    """Attention over all positions of the same input, no mask (encoder)."""
    found = match_attention(softmax)
    if isinstance(found, str):
        return found
    if found.causal or _is_cache(found.key):
        return "not an attention over its own input without a mask"
    return _replace(softmax, found)


def cross_attention(softmax: ir.Node) -> NotHere | None:
    """Attention over keys and values of the encoder that come in split (cached decoder)."""
    found = match_attention(softmax)
    if isinstance(found, str):
        return found
    if found.causal or not _is_cache(found.key):
        return "not an attention over given keys"
    return _replace(softmax, found)


def cached_attention(softmax: ir.Node) -> NotHere | None:
    """Causal attention, over a cache or without one (decoder)."""
    found = match_attention(softmax)
    if isinstance(found, str):
        return found
    if not found.causal:
        return "not a causal attention"
    return _replace(softmax, found)


def match_attention(softmax: ir.Node) -> Attention | NotHere:
    """The attention around `softmax`, or what is missing."""
    scores, causal = softmax.inputs[0], False
    mask = producer(scores, "Add")
    if mask is not None:
        if producer(mask.inputs[1], "Trilu") is None:
            return "its mask is not the causal one"
        scores, causal = mask.inputs[0], True
    product, result = producer(scores, "MatMul"), _result(softmax)
    if product is None or result is None:
        return "no product of queries and keys before it, or none with values after it"
    mixed, reshape = result
    query = _split(product.inputs[0])
    turned = producer(product.inputs[1], "Transpose")
    if query is None or turned is None or _order(turned) != SWAP_LAST:
        return "queries or keys are not split into heads"
    return _sources(query, turned.inputs[0], mixed.inputs[1], causal=causal, result=reshape)


def _sources(
    query: Split, key: ir.Value | None, value: ir.Value | None, *, causal: bool, result: ir.Node
) -> Attention | NotHere:
    """Where keys and values come from: this call, a cache with this call appended, or a cache alone."""
    assert key is not None and value is not None
    grown = producer(key, "Concat"), producer(value, "Concat")
    past, present = None, None
    if grown[0] is not None and grown[1] is not None:
        present, past = (key, value), (_input(grown[0], 0), _input(grown[1], 0))
        key, value = _input(grown[0], 1), _input(grown[1], 1)
    split = _split(key), _split(value)
    if split[0] is not None and split[1] is not None:
        key, value = split[0].whole, split[1].whole
    elif causal or not (_is_cache(key) and _is_cache(value)):
        return "keys or values are neither split into heads nor given"
    return Attention(query.heads, query.whole, key, value, causal, past, present, result)


def _result(softmax: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The product with the values and the Reshape that joins the heads."""
    nodes = []
    value = softmax.outputs[0]
    for op_type in ("MatMul", "Transpose", "Reshape"):
        if not used_once(value):
            return None
        node = value.consumers()[0]
        if node.op_type != op_type:
            return None
        nodes.append(node)
        value = node.outputs[0]
    return nodes[0], nodes[2]


def _split(value: ir.Value | None) -> Split | None:
    """What `value` was before it was split into heads."""
    transpose = producer(value, "Transpose")
    if transpose is None or _order(transpose) != TO_HEADS:
        return None
    reshape = producer(transpose.inputs[0], "Reshape")
    sizes = constant_ints(reshape.inputs[1]) if reshape is not None else None
    if reshape is None or sizes is None or len(sizes) != 4 or sizes[:2] != [0, 0]:
        return None
    return Split(_input(reshape, 0), sizes[2])


def _is_cache(value: ir.Value) -> bool:
    """Whether `value` is a graph input [batch, heads, keys, head_dim]."""
    return value.is_graph_input() and value.shape is not None and len(value.shape) == 4


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _replace(softmax: ir.Node, found: Attention) -> None:
    """Put the fused node in the place of the last one; what nothing reads any more is removed afterwards."""
    inputs: list[ir.Value | None] = [found.query, found.key, found.value]
    if found.past is not None:
        inputs += [None, None, None, *found.past]
    outputs = 1 if found.present is None else 3
    node = new_node(module_of(softmax), "MultiHeadAttention", inputs, domain=CONTRIB, outputs=outputs)
    node.attributes.add(ir.AttrInt64("num_heads", found.heads))
    # The scale is in the query's weights; 0 would mean 1 / sqrt(head_dim).
    node.attributes.add(ir.AttrFloat32("scale", 1.0))
    if found.causal:
        node.attributes.add(ir.AttrInt64("unidirectional", 1))
        node.attributes.add(ir.AttrFloat32("mask_filter_value", MASKED))
    old = [found.result.outputs[0], *(found.present or ())]
    assert softmax.graph is not None
    ir.convenience.replace_nodes_and_values(
        softmax.graph, found.result, [found.result], [node], old, node.outputs
    )


def _order(transpose: ir.Node) -> tuple[int, ...]:
    return tuple(transpose.attributes.get_ints("perm") or ())
