"""The decoder graphs: one with a key-value cache (prefill and step in one graph) and a basic one without.

The token embedding is stored once. The output head reads it through a Transpose, which ONNX Runtime folds when it
loads the graph: measured at d 384, 51,865 tokens, two threads, one token (best of 50, ms) Transpose + MatMul 3.3, Gemm
with transB between two Reshapes 3.6, a second stored copy 3.5, FusedMatMul 3.6, and `E @ x^T`, which needs no packed
copy in memory, 10 to 12. Loading is alike, so the form with the fewest nodes stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.checkpoint import Checkpoint
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped
from pocket_opt.models.whisper.layers import Layers

MASKED = -60_000.0
"""Added to a masked score. Finite and within fp16's range: -inf turns into NaN in a row that is masked throughout."""


@dataclass(frozen=True)
class Span:
    """Lengths along the token axis, as int64 vectors of one element, and the causal mask [length, past + length]."""

    past: ir.Value
    total: ir.Value
    mask: ir.Value


def build_cached_decoder(
    checkpoint: Checkpoint, *, positions: int | str | None = None, aligned: Collection[int] = ()
) -> ir.Model:
    """The graph for prefill (past of length 0) and step; `positions` names the encoder's length where it varies.

    In: `tokens` int64 [batch, length], `past_key_{i}`, `past_value_{i}` [batch, heads, past, head_dim],
    `cross_key_{i}`, `cross_value_{i}` [batch, heads, positions, head_dim]. Out: `logits` [batch, length, vocab],
    `present_key_{i}`, `present_value_{i}` [batch, heads, past + length, head_dim]; of the `aligned` layers also
    `cross_query_{i}` [batch, length, d_model]. Positions follow from the past; past + length may not exceed
    `target_positions`.
    """
    dims = checkpoint.dims
    graph = GraphBuilder("decoder")
    layers = Layers(graph, checkpoint)
    tokens = graph.input("tokens", ir.DataType.INT64, ("batch", "length"))
    past = [_cache_inputs(layers, "past", index, "past") for index in range(dims.decoder_layers)]
    heard = positions or dims.source_positions
    cross = [_cache_inputs(layers, "cross", index, heard) for index in range(dims.decoder_layers)]
    presents, queries = [], {}
    with graph.scope("decoder"):
        span = _span(graph, tokens, past[0][0])
        x = _embed(layers, tokens, span)
        for index in range(dims.decoder_layers):
            with graph.scope(f"layers.{index}"):
                x, present = _self_attention(layers, x, past[index], span.mask)
                x, queries[index] = cross_attention(layers, x, cross[index])
                x = layers.feed_forward(x, dims.decoder_ffn_dim)
                presents.append(present)
    add_head(layers, x)
    for index, present in enumerate(presents):
        for kind, value in zip(("key", "value"), present, strict=True):
            graph.output(value, f"present_{kind}_{index}", _cache_shape(layers, "past + length"))
    _tell(layers, {f"cross_query_{index}": queries[index] for index in aligned})
    return graph.build()


def build_basic_decoder(
    checkpoint: Checkpoint, *, positions: int | str | None = None, aligned: Collection[int] = ()
) -> ir.Model:
    """The graph without a cache: `tokens` int64 [batch, length], `encoder_hidden` -> `logits`.

    Of the `aligned` layers also `cross_query_{i}` [batch, length, d_model] and `cross_key_{i}` [batch, positions,
    d_model].
    """
    dims = checkpoint.dims
    graph = GraphBuilder("decoder")
    layers = Layers(graph, checkpoint)
    tokens = graph.input("tokens", ir.DataType.INT64, ("batch", "length"))
    shape = ("batch", positions or dims.source_positions, dims.d_model)
    hidden = graph.input("encoder_hidden", ir.DataType.FLOAT, shape)
    told: dict[str, ir.Value] = {}
    with graph.scope("decoder"):
        span = _span(graph, tokens, None)
        x = _embed(layers, tokens, span)
        for index in range(dims.decoder_layers):
            with graph.scope(f"layers.{index}"):
                x, query, key = _basic_layer(layers, x, hidden, span.mask)
            if index in aligned:
                told |= {f"cross_query_{index}": query, f"cross_key_{index}": key}
    add_head(layers, x)
    _tell(layers, told)
    return graph.build()


def _tell(layers: Layers, values: Mapping[str, ir.Value]) -> None:
    """Outputs for alignment, which callers of a step need not ask for."""
    for name, value in values.items():
        layers.graph.output(value, name, shape_of(value))


def _cache_shape(layers: Layers, length: int | str) -> tuple[int | str, ...]:
    dims = layers.checkpoint.dims
    return ("batch", dims.decoder_heads, length, dims.d_model // dims.decoder_heads)


def _cache_inputs(layers: Layers, kind: str, index: int, length: int | str) -> tuple[ir.Value, ir.Value]:
    shape = _cache_shape(layers, length)
    key = layers.graph.input(f"{kind}_key_{index}", ir.DataType.FLOAT, shape)
    return key, layers.graph.input(f"{kind}_value_{index}", ir.DataType.FLOAT, shape)


def _span(graph: GraphBuilder, tokens: ir.Value, past_key: ir.Value | None) -> Span:
    """The mask is an upper triangle of `MASKED`; for a single token it is one row of zeros, so a step pays nothing."""
    with graph.scope("causal_mask"):
        length = graph.op("Shape", tokens, start=1, end=2)
        past = graph.ints(0) if past_key is None else graph.op("Shape", past_key, start=2, end=3)
        total = graph.op("Add", past, length)
        fill = ir.tensor(np.array([MASKED], np.float32))
        square = graph.op("ConstantOfShape", graph.op("Concat", length, total, axis=0), value=fill)
        first_masked = graph.op("Squeeze", graph.op("Add", past, graph.ints(1)), graph.ints(0))
        return Span(past, total, graph.op("Trilu", square, first_masked, upper=1))


def _embed(layers: Layers, tokens: ir.Value, span: Span) -> ir.Value:
    dims, graph = layers.checkpoint.dims, layers.graph
    with graph.scope("embed_tokens"):
        x = graph.op("Gather", layers.weight("weight", (dims.vocab, dims.d_model)), tokens, axis=0)
    with graph.scope("embed_positions"):
        table = layers.weight("weight", (dims.target_positions, dims.d_model))
        positions = graph.op("Slice", table, span.past, span.total, graph.ints(0))
        return shaped(graph.op("Add", x, positions), ("batch", "length", dims.d_model))


def _self_attention(
    layers: Layers, x: ir.Value, past: tuple[ir.Value, ir.Value], mask: ir.Value
) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
    """`x` after it looked at the tokens so far, residual included; the keys and values of these."""
    dims, graph = layers.checkpoint.dims, layers.graph
    heads = dims.decoder_heads
    normed = layers.layer_norm(x, "self_attn_layer_norm")
    with graph.scope("self_attn"):
        query = layers.query(normed, heads)
        key = graph.op("Concat", past[0], layers.key(normed, heads), axis=2)
        value = graph.op("Concat", past[1], layers.value(normed, heads), axis=2)
        mixed = layers.attend(query, key, value, mask)
    return layers.residual(x, mixed), (key, value)


def _basic_layer(
    layers: Layers, x: ir.Value, hidden: ir.Value, mask: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """`x` after the layer, and the queries and keys of its cross-attention, heads joined."""
    dims, graph = layers.checkpoint.dims, layers.graph
    heads = dims.decoder_heads
    normed = layers.layer_norm(x, "self_attn_layer_norm")
    with graph.scope("self_attn"):
        query, key = layers.query(normed, heads), layers.key(normed, heads)
        mixed = layers.attend(query, key, layers.value(normed, heads), mask)
    x = layers.residual(x, mixed)
    with graph.scope("encoder_attn"):
        joined_key = layers.joined_key(hidden)
        cross = layers.split_heads(joined_key, heads), layers.value(hidden, heads)
    x, joined_query = cross_attention(layers, x, cross)
    return layers.feed_forward(x, dims.decoder_ffn_dim), joined_query, joined_key


def cross_attention(
    layers: Layers, x: ir.Value, cross: tuple[ir.Value, ir.Value]
) -> tuple[ir.Value, ir.Value]:
    """`x` [batch, length, d_model] after it looked at the encoder's keys and values, residual included.

    Beside it the queries of the same shape.
    """
    graph, heads = layers.graph, layers.checkpoint.dims.decoder_heads
    normed = layers.layer_norm(x, "encoder_attn_layer_norm")
    with graph.scope("encoder_attn"):
        joined = layers.joined_query(normed, heads)
        mixed = layers.attend(layers.split_heads(joined, heads), *cross)
    return layers.residual(x, mixed), joined


def add_head(layers: Layers, x: ir.Value) -> None:
    """Final layer norm and projection on the vocabulary: the output `logits` [batch, length, vocab]."""
    dims, graph = layers.checkpoint.dims, layers.graph
    with graph.scope("decoder"):
        x = layers.layer_norm(x, "layer_norm")
        with graph.scope("embed_tokens"):
            table = layers.weight("weight", (dims.vocab, dims.d_model))
    with graph.scope("proj_out"):
        logits = graph.op("MatMul", x, graph.op("Transpose", table, perm=[1, 0]))
    graph.output(logits, "logits", (*shape_of(x)[:-1], dims.vocab))
