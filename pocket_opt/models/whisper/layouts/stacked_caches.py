"""Encoder and decoder as sherpa-onnx loads them: caches of all layers in one tensor, self-attention of full length.

The client pads the features of a clip with zeros, which in Whisper's normalized log-mel are no silence, and to any
length. Our encoder sees one window: here frames of zeros become the floor that Whisper's own front end gives silence
(8 below the loudest in log10, so 2 in the normalized scale, never below log10(1e-10)), and the window is filled up
with it.

The decoder's self-attention caches are `[layers, batch, target_positions, d_model]`, written at `offset`. The
cross-attention cache has the shape of sherpa-onnx, `[layers, batch, positions, d_model]`, but within a layer it keeps
our order `[batch, heads, positions, head_dim]`: clients hand it from encoder to decoder unread, and a step would
otherwise have to transpose it all. Ports: sherpa-onnx/csrc/offline-whisper-model.cc.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.layouts.nodes import Additions
from pocket_opt.models.whisper.layouts.ports import KINDS, NO_LIMIT, layer_ports, port

_LETTERS = dict(zip(KINDS, "kv", strict=True))
DYNAMIC_RANGE = 2.0
LOWEST = -1.5
"""(max(log10 mel, peak - 8) + 4) / 4 in Whisper's front end: the distance of 8 is 2, and the floor of -10 is -1.5."""


def stack_encoder(model: ir.Model) -> None:
    """Make `model` the encoder `mel` [batch, mels, frames] -> `n_layer_cross_k`, `n_layer_cross_v`.

    The client reads the first two outputs; the hidden states stay the third, so that they can be measured.
    """
    graph = model.graph
    add = Additions(graph)
    features, hidden = port(graph, "features"), port(graph, "encoder_hidden")
    assert features.shape is not None
    assert hidden.shape is not None
    batch, mels, frames = features.shape
    mel = ir.val("mel", ir.DataType.FLOAT, [batch, mels, "frames"])
    features.replace_all_uses_with(_fill_window(add, mel, int(mels), int(frames)))
    graph.inputs[:] = [mel]
    add.continue_at_end()
    pairs = layer_ports(graph, "cross")
    graph.outputs.clear()
    sizes = add.ints(1, -1, int(hidden.shape[1]), int(hidden.shape[2]))
    for number, kind in enumerate(KINDS):
        layers = [add.one("Reshape", pair[number], sizes) for pair in pairs]
        stacked = add.one("Concat", *layers, axis=0)
        stacked.name, stacked.dtype = f"n_layer_cross_{_LETTERS[kind]}", ir.DataType.FLOAT
        stacked.shape = ir.Shape((len(pairs), batch, hidden.shape[1], hidden.shape[2]))
        graph.outputs.append(stacked)
    graph.outputs.append(hidden)


def _fill_window(add: Additions, mel: ir.Value, mels: int, frames: int) -> ir.Value:
    peak = add.one("ReduceMax", mel, add.ints(1, 2), keepdims=1)
    below = add.one("Sub", peak, add.constant("dynamic_range", np.array(DYNAMIC_RANGE, np.float32)))
    floor = add.one("Max", below, add.constant("lowest", np.array(LOWEST, np.float32)))
    loudness = add.one("ReduceMax", add.one("Abs", mel), add.ints(1), keepdims=1)
    absent = add.one("Equal", loudness, add.constant("zero", np.array(0, np.float32)))
    heard = add.one("Where", absent, floor, mel)
    rest = add.one("Expand", floor, add.ints(1, mels, frames))
    return add.slice(add.one("Concat", heard, rest, axis=2), add.ints(0), add.ints(frames), 2)


def stack_decoder(model: ir.Model, target_positions: int) -> ir.Value:
    """Make `model` the decoder with `tokens`, the stacked caches and `offset`; gives `offset`, the tokens before."""
    graph = model.graph
    add = Additions(graph)
    past, cross, present = (layer_ports(graph, name) for name in ("past", "cross", "present"))
    cache, source = past[0][0].shape, cross[0][0].shape
    assert cache is not None
    assert source is not None
    batch, heads, head_dim, width = cache[0], int(cache[1]), int(cache[3]), int(cache[1]) * int(cache[3])
    stack = len(past), batch, target_positions, width
    offset = ir.val("offset", ir.DataType.INT64, [1])
    selves = [ir.val(f"in_n_layer_self_{_LETTERS[kind]}_cache", ir.DataType.FLOAT, stack) for kind in KINDS]
    crosses = [
        ir.val(f"n_layer_cross_{_LETTERS[kind]}", ir.DataType.FLOAT, (len(past), batch, source[2], width))
        for kind in KINDS
    ]
    for number in range(len(KINDS)):
        filled = add.slice(selves[number], add.ints(0), offset, 2)
        split = add.one("Reshape", filled, add.ints(0, 0, 0, heads, head_dim))
        by_head = add.one("Transpose", split, perm=[0, 1, 3, 2, 4])
        _feed(add, by_head, [pair[number] for pair in past], (0, heads, -1, head_dim))
        sizes = (-1, heads, int(source[2]), head_dim)
        _feed(add, crosses[number], [pair[number] for pair in cross], sizes)
    graph.inputs[:] = [port(graph, "tokens"), *selves, *crosses, offset]
    add.continue_at_end()
    del graph.outputs[1:]
    for number, kind in enumerate(KINDS):
        rows = [_new_rows(add, pair[number], offset, width) for pair in present]
        graph.outputs.append(
            _written(add, selves[number], rows, offset, f"out_n_layer_self_{_LETTERS[kind]}_cache")
        )
    return offset


def _feed(add: Additions, stacked: ir.Value, layers: list[ir.Value], sizes: tuple[int, ...]) -> None:
    """Let each of `layers` be its part of `stacked`, reshaped to `sizes` [batch, heads, positions, head_dim]."""
    parts = add.op("Split", stacked, outputs=len(layers), axis=0, num_outputs=len(layers))
    for layer, part in zip(layers, parts, strict=True):
        flat = add.one("Squeeze", part, add.ints(0))
        layer.replace_all_uses_with(add.one("Reshape", flat, add.ints(*sizes)))


def _new_rows(add: Additions, present: ir.Value, offset: ir.Value, width: int) -> ir.Value:
    """Of `present` [batch, heads, past + length, head_dim] what this call added: [1, batch, length, d_model]."""
    new = add.slice(present, offset, add.ints(NO_LIMIT), 2)
    joined = add.one("Reshape", add.one("Transpose", new, perm=[0, 2, 1, 3]), add.ints(0, 0, width))
    return add.one("Unsqueeze", joined, add.ints(0))


def _written(add: Additions, before: ir.Value, rows: list[ir.Value], offset: ir.Value, name: str) -> ir.Value:
    """The cache `before` with `rows`, one for each layer, at `offset`."""
    new = add.one("Concat", *rows, axis=0)
    end = add.one("Add", offset, add.one("Shape", new, start=2, end=3))
    kept = add.slice(before, add.ints(0), offset, 2), add.slice(before, end, add.ints(NO_LIMIT), 2)
    after = add.one("Concat", kept[0], new, kept[1], axis=2)
    after.name, after.dtype, after.shape = name, ir.DataType.FLOAT, before.shape
    return after
