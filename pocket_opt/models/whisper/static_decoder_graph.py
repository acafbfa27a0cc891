"""The decoder with static shapes: one clip, a fixed number of tokens a call, a cache of full length, for NPUs.

Compilers for NPUs want every shape fixed, so the cache is always as long as the model's context, a mask tells which of
its rows are filled, and only the rows of the new token come out: the host writes them at `position`. Scores of cache
and new token are computed apart and joined before the softmax, as in the NPU variants of sherpa-onnx and in Qualcomm's
AI Hub models, so that nothing has to be inserted into the cache inside the graph. One graph takes one token; another,
`prefill`, as many as a prompt has.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.checkpoint import Checkpoint
from pocket_opt.models.whisper.decoder_graph import MASKED, add_head, cross_attention
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped
from pocket_opt.models.whisper.layers import Layers

Pair = tuple[ir.Value, ir.Value]


def build_static_decoder(checkpoint: Checkpoint, *, length: int = 1, name: str = "decoder") -> ir.Model:
    """The graph for `length` tokens of one clip; `context` is the model's `target_positions`.

    In: `tokens` int64 [1, length], `position` int64 [length], `cache_mask` [1, 1, 1, context] (0 where the cache is
    filled, `decoder_graph.MASKED` elsewhere), `past_key_{i}`, `past_value_{i}` [1, heads, context, head_dim],
    `cross_key_{i}`, `cross_value_{i}` [1, heads, positions, head_dim]. Out: `logits` [1, length, vocab], `new_key_{i}`,
    `new_value_{i}` [1, heads, length, head_dim]. Of the new tokens, each sees those before it and itself.
    """
    dims = checkpoint.dims
    graph = GraphBuilder(name)
    layers = Layers(graph, checkpoint)
    tokens = graph.input("tokens", ir.DataType.INT64, (1, length))
    position = graph.input("position", ir.DataType.INT64, (length,))
    mask = graph.input("cache_mask", ir.DataType.FLOAT, (1, 1, 1, dims.target_positions))
    past = [_pair(layers, "past", index, dims.target_positions) for index in range(dims.decoder_layers)]
    cross = [_pair(layers, "cross", index, dims.source_positions) for index in range(dims.decoder_layers)]
    new = []
    with graph.scope("decoder"):
        x = _embed(layers, tokens, position)
        for index in range(dims.decoder_layers):
            with graph.scope(f"layers.{index}"):
                mixed, rows = _self_attention(layers, x, past[index], mask)
                x, _ = cross_attention(layers, layers.residual(x, mixed), cross[index])
                x = layers.feed_forward(x, dims.decoder_ffn_dim)
                new.append(rows)
    add_head(layers, x)
    for index, rows in enumerate(new):
        for kind, value in zip(("key", "value"), rows, strict=True):
            graph.output(value, f"new_{kind}_{index}", _cache_shape(layers, length))
    return graph.build()


def _cache_shape(layers: Layers, length: int) -> tuple[int, int, int, int]:
    dims = layers.checkpoint.dims
    return (1, dims.decoder_heads, length, dims.d_model // dims.decoder_heads)


def _pair(layers: Layers, kind: str, index: int, length: int) -> Pair:
    shape = _cache_shape(layers, length)
    key = layers.graph.input(f"{kind}_key_{index}", ir.DataType.FLOAT, shape)
    return key, layers.graph.input(f"{kind}_value_{index}", ir.DataType.FLOAT, shape)


def _embed(layers: Layers, tokens: ir.Value, position: ir.Value) -> ir.Value:
    dims, graph = layers.checkpoint.dims, layers.graph
    with graph.scope("embed_tokens"):
        x = graph.op("Gather", layers.weight("weight", (dims.vocab, dims.d_model)), tokens, axis=0)
    with graph.scope("embed_positions"):
        table = layers.weight("weight", (dims.target_positions, dims.d_model))
        return shaped(
            graph.op("Add", x, graph.op("Gather", table, position, axis=0)), (*shape_of(tokens), dims.d_model)
        )


def _self_attention(layers: Layers, x: ir.Value, past: Pair, mask: ir.Value) -> tuple[ir.Value, Pair]:
    """The attention's output [1, length, d_model], and the new rows of the cache."""
    dims, graph = layers.checkpoint.dims, layers.graph
    heads, context, length = dims.decoder_heads, dims.target_positions, int(shape_of(x)[1])
    normed = layers.layer_norm(x, "self_attn_layer_norm")
    with graph.scope("self_attn"):
        query, key = layers.query(normed, heads), layers.key(normed, heads)
        value = layers.value(normed, heads)
        before = graph.op("Add", graph.op("MatMul", query, _turned(layers, past[0])), mask)
        now = graph.op("MatMul", query, _turned(layers, key))
        if length > 1:
            later = np.triu(np.full((length, length), MASKED, np.float32), 1)
            now = graph.op("Add", now, graph.constant("const/causal_mask", later))
        weights = graph.op("Softmax", graph.op("Concat", before, now, axis=3), axis=-1)
        cached = graph.op("Slice", weights, graph.ints(0), graph.ints(context), graph.ints(3))
        newest = graph.op("Slice", weights, graph.ints(context), graph.ints(context + length), graph.ints(3))
        mixed = graph.op("Add", graph.op("MatMul", cached, past[1]), graph.op("MatMul", newest, value))
        return layers.join_heads(shaped(mixed, _cache_shape(layers, length))), (key, value)


def _turned(layers: Layers, key: ir.Value) -> ir.Value:
    return layers.graph.op("Transpose", key, perm=[0, 1, 3, 2])
