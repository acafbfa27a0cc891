"""The encoder as a module: features of one window to hidden states and the decoder's cross-attention caches.

The two convolutions are products with their three shifted inputs side by side, so that what quantizes products
quantizes them, too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from pocket_opt.executorch_graphs.layers import (
    FeedForward,
    LayerNorm,
    SelfAttention,
    read,
    read_linear,
    split_heads,
)
from pocket_opt.models.whisper.checkpoint import Checkpoint, FloatArray


class Encoder(nn.Module):
    """`features` `[1, mels, frames]` to `encoder_hidden` and, for each decoder layer, `cross_key` and `cross_value`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        dims = checkpoint.dims
        self.conv1 = read_linear(checkpoint, "encoder.conv1", change=_as_product)
        self.conv2 = read_linear(checkpoint, "encoder.conv2", change=_as_product)
        self.register_buffer("positions", read(checkpoint, "encoder.embed_positions.weight"))
        names = [f"encoder.layers.{index}" for index in range(dims.encoder_layers)]
        self.layers = nn.ModuleList(_Layer(checkpoint, name) for name in names)
        self.layer_norm = LayerNorm(checkpoint, "encoder.layer_norm")
        readers = [f"decoder.layers.{index}.encoder_attn" for index in range(dims.decoder_layers)]
        self.cross = nn.ModuleList(_CrossCache(checkpoint, name) for name in readers)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Hidden states `[1, positions, d_model]`, then caches `[heads, positions, head_dim]`."""
        x = gelu(self.conv1(_neighbours(features.transpose(1, 2))))
        x = gelu(self.conv2(_neighbours_of_pairs(x))) + self.positions
        for layer in self.layers:
            x = layer(x)
        hidden = self.layer_norm(x)
        return hidden, *(cache for part in self.cross for cache in part(hidden))


class _Layer(nn.Module):
    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.self_attn_layer_norm = LayerNorm(checkpoint, f"{name}.self_attn_layer_norm")
        heads = checkpoint.dims.encoder_heads
        self.self_attn = SelfAttention(checkpoint, f"{name}.self_attn", heads)
        self.feed_forward = FeedForward(checkpoint, name)

    def forward(self, x: Tensor) -> Tensor:
        attend, normed = self.self_attn, self.self_attn_layer_norm(x)
        query = attend.split(attend.q_proj(normed))
        key, value = attend.split(attend.k_proj(normed)), attend.split(attend.v_proj(normed))
        weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)), -1)
        return self.feed_forward(x + attend.join(torch.bmm(weights, value)))


class _CrossCache(nn.Module):
    """Keys and values of one decoder layer."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.heads = checkpoint.dims.decoder_heads
        self.k_proj = read_linear(checkpoint, f"{name}.k_proj", bias=False)
        self.v_proj = read_linear(checkpoint, f"{name}.v_proj")

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return split_heads(self.k_proj(hidden), self.heads), split_heads(self.v_proj(hidden), self.heads)


def _as_product(weight: FloatArray) -> FloatArray:
    """`[out, in, 3]` to `[out, 3 * in]`."""
    return np.concatenate([weight[:, :, place] for place in range(3)], axis=1)


def _neighbours(x: Tensor) -> Tensor:
    """`[1, length, width]` to `[1, length, 3 * width]`: the one before, each, and the one after; zeros at the ends."""
    length, padded = x.shape[1], pad(x, (0, 0, 1, 1))
    return torch.cat([padded[:, place : place + length] for place in range(3)], 2)


def _neighbours_of_pairs(x: Tensor) -> Tensor:
    """The same for every second one: `[1, length, width]` to `[1, length / 2, 3 * width]`."""
    half, width = x.shape[1] // 2, x.shape[2]
    padded = pad(x, (0, 0, 1, 1))
    pairs = padded[:, : 2 * half].reshape(1, half, 2 * width)
    after = padded[:, 2:].reshape(1, half, 2 * width)[:, :, :width]
    return torch.cat([pairs, after], 2)
