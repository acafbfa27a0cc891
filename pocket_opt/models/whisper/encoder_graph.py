"""The encoder graph: features to hidden states and, for a cached decoder, to its cross-attention keys and values."""

from __future__ import annotations

import onnx_ir as ir

from pocket_opt.models.whisper.checkpoint import Checkpoint
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped
from pocket_opt.models.whisper.layers import Layers

POSITIONS = "positions"
"""The name of the encoder's length where it may vary."""


def build_encoder(
    checkpoint: Checkpoint, *, cross_cache: bool, any_length: bool = False, batch: int | str = "batch"
) -> ir.Model:
    """The graph `features` [batch, mels, frames] -> `encoder_hidden` [batch, positions, d_model].

    With `cross_cache` also `cross_key_{i}` and `cross_value_{i}` [batch, heads, positions, head_dim] for every
    layer i of the *decoder*, whose count may differ from the encoder's (distilled models, turbo). With `any_length`
    frames may be any even number up to a window's. `batch` is a number where it is fixed.
    """
    dims = checkpoint.dims
    graph = GraphBuilder("encoder")
    layers = Layers(graph, checkpoint)
    positions = POSITIONS if any_length else dims.source_positions
    frames = "frames" if any_length else dims.frames
    features = graph.input("features", ir.DataType.FLOAT, (batch, dims.mels, frames))
    with graph.scope("encoder"):
        hidden = _embed(layers, features, (batch, positions, dims.d_model))
        for index in range(dims.encoder_layers):
            with graph.scope(f"layers.{index}"):
                hidden = _layer(layers, hidden)
        hidden = layers.layer_norm(hidden, "layer_norm")
    graph.output(hidden, "encoder_hidden", (batch, positions, dims.d_model))
    if cross_cache:
        _emit_cross_cache(layers, hidden)
    return graph.build()


def _embed(layers: Layers, features: ir.Value, shape: tuple[int | str, ...]) -> ir.Value:
    """Two convolutions (the second halves the frames) and the learned or sinusoidal positions, as many as needed.

    `shape` is the result's, [batch, positions, d_model].
    """
    dims, graph = layers.checkpoint.dims, layers.graph
    x = _convolution(layers, features, "conv1", dims.mels, stride=1)
    x = _convolution(layers, x, "conv2", dims.d_model, stride=2)
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    with graph.scope("embed_positions"):
        positions = layers.weight("weight", (dims.source_positions, dims.d_model))
        if isinstance(shape[1], str):
            needed = graph.op("Shape", x, start=1, end=2)
            positions = graph.op("Slice", positions, graph.ints(0), needed, graph.ints(0))
        return shaped(graph.op("Add", x, positions), shape)


def _convolution(layers: Layers, x: ir.Value, name: str, channels: int, *, stride: int) -> ir.Value:
    graph, width = layers.graph, layers.checkpoint.dims.d_model
    with graph.scope(name):
        weight, bias = layers.weight("weight", (width, channels, 3)), layers.weight("bias", (width,))
        y = graph.op("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1], strides=[stride])
        return graph.op("Gelu", y)


def _layer(layers: Layers, x: ir.Value) -> ir.Value:
    dims, graph = layers.checkpoint.dims, layers.graph
    heads = dims.encoder_heads
    normed = layers.layer_norm(x, "self_attn_layer_norm")
    with graph.scope("self_attn"):
        query, key = layers.query(normed, heads), layers.key(normed, heads)
        mixed = layers.attend(query, key, layers.value(normed, heads))
    return layers.feed_forward(layers.residual(x, mixed), dims.encoder_ffn_dim)


def _emit_cross_cache(layers: Layers, hidden: ir.Value) -> None:
    dims, graph = layers.checkpoint.dims, layers.graph
    heads = dims.decoder_heads
    batch, positions, _ = shape_of(hidden)
    shape = (batch, heads, positions, dims.d_model // heads)
    for index in range(dims.decoder_layers):
        with graph.scope(f"decoder.layers.{index}.encoder_attn"):
            graph.output(layers.key(hidden, heads), f"cross_key_{index}", shape)
            graph.output(layers.value(hidden, heads), f"cross_value_{index}", shape)
