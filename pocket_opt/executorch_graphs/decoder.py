"""The decoder as a module with static shapes: one token of one clip a call, caches as inputs.

The caches stay with the caller, who puts the new rows in (`runner/static_decoder.py`): a cache that the program keeps
as a mutable buffer is copied as a whole with every token. Keys are the left operand of their product, for XNNPACK packs
the right one anew at each call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocket_opt.executorch_graphs.layers import (
    FeedForward,
    LayerNorm,
    SelfAttention,
    read,
    read_linear,
    split_heads,
)
from pocket_opt.models.whisper.checkpoint import Checkpoint


class Decoder(nn.Module):
    """One token: see `forward`."""

    def __init__(self, checkpoint: Checkpoint, table: nn.Module) -> None:
        super().__init__()
        self.embed_tokens = table
        self.register_buffer("positions", read(checkpoint, "decoder.embed_positions.weight"))
        names = [f"decoder.layers.{index}" for index in range(checkpoint.dims.decoder_layers)]
        self.layers = nn.ModuleList(_Layer(checkpoint, name) for name in names)
        self.layer_norm = LayerNorm(checkpoint, "decoder.layer_norm")
        self.head = read_linear(checkpoint, "decoder.embed_tokens", bias=False)

    def forward(
        self, tokens: Tensor, position: Tensor, cache_mask: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits `[1, 1, vocab]`, then the new rows `[heads, 1, head_dim]` of each layer's key and value.

        Args:
            tokens: int64 `[1]`.
            position: int64 `[1]`.
            cache_mask: `[1, context]`, 0 where the cache is filled and a large negative number elsewhere.
            caches: of each layer past key, past value `[heads, context, head_dim]`, cross key, cross value `[heads,
                positions, head_dim]`.
        """
        row = self.embed_tokens(tokens) + self.positions.index_select(0, position)
        x, new = row.view(1, 1, -1), list[Tensor]()
        for index, layer in enumerate(self.layers):
            x, *rows = layer(x, cache_mask, *caches[4 * index : 4 * index + 4])
            new += rows
        return self.head(self.layer_norm(x)), *new


class _Layer(nn.Module):
    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.self_attn_layer_norm = LayerNorm(checkpoint, f"{name}.self_attn_layer_norm")
        heads = checkpoint.dims.decoder_heads
        self.self_attn = SelfAttention(checkpoint, f"{name}.self_attn", heads)
        self.cross = _CrossAttention(checkpoint, name)
        self.feed_forward = FeedForward(checkpoint, name)

    def forward(
        self, x: Tensor, mask: Tensor, key: Tensor, value: Tensor, cross_key: Tensor, cross_value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        attend, normed = self.self_attn, self.self_attn_layer_norm(x)
        query = attend.split(attend.q_proj(normed))
        new_key, new_value = attend.split(attend.k_proj(normed)), attend.split(attend.v_proj(normed))
        before, now = scores(query, key) + mask, scores(query, new_key)
        weights = torch.softmax(torch.cat([before, now], -1), -1)
        context, heads = key.shape[1], attend.heads
        mixed = torch.bmm(weights[:, :context].view(heads, 1, context), value)
        mixed = mixed + weights[:, context:].view(heads, 1, 1) * new_value
        x = self.cross(x + attend.join(mixed), cross_key, cross_value)
        return self.feed_forward(x), new_key, new_value


class _CrossAttention(nn.Module):
    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.heads = heads = checkpoint.dims.decoder_heads
        scale = (checkpoint.dims.d_model // heads) ** -0.5
        self.encoder_attn_layer_norm = LayerNorm(checkpoint, f"{name}.encoder_attn_layer_norm")
        self.q_proj = read_linear(checkpoint, f"{name}.encoder_attn.q_proj", scale=scale)
        self.out_proj = read_linear(checkpoint, f"{name}.encoder_attn.out_proj")

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = split_heads(self.q_proj(self.encoder_attn_layer_norm(x)), self.heads)
        weights = torch.softmax(scores(query, key), -1)
        mixed = torch.bmm(weights.view(self.heads, 1, -1), value)
        return x + self.out_proj(mixed.view(1, 1, -1))


def scores(query: Tensor, key: Tensor) -> Tensor:
    """`[heads, 1, head_dim]` with `[heads, length, head_dim]`: `[heads, length]`."""
    heads, length, _ = key.shape
    return torch.bmm(key, query.view(heads, -1, 1)).view(heads, length)
