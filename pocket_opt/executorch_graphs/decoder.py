"""The decoder as a module with static shapes: one token of one clip a call, or a prompt's; caches as inputs.

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
    join_heads,
    read,
    read_linear,
    split_heads,
)
from pocket_opt.models.whisper.checkpoint import Checkpoint
from pocket_opt.models.whisper.runner.static_decoder import MASKED


class Decoder(nn.Module):
    """One token or `prompt` tokens: see `forward`. A product of one token is one with a vector, and written so."""

    def __init__(self, checkpoint: Checkpoint, table: nn.Module, prompt: int = 1) -> None:
        super().__init__()
        self.register_buffer("later", torch.full((prompt, prompt), MASKED).triu(1))
        self.embed_tokens = table
        self.register_buffer("positions", read(checkpoint, "decoder.embed_positions.weight"))
        names = [f"decoder.layers.{index}" for index in range(checkpoint.dims.decoder_layers)]
        self.layers = nn.ModuleList(_Layer(checkpoint, name) for name in names)
        self.layer_norm = LayerNorm(checkpoint, "decoder.layer_norm")
        self.head = read_linear(checkpoint, "decoder.embed_tokens", bias=False)

    def forward(
        self, tokens: Tensor, position: Tensor, cache_mask: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits `[1, count, vocab]`, then the new rows `[heads, count, head_dim]` of each layer's key and value.

        Args:
            tokens: int64 `[count]`, count 1 or `prompt`.
            position: int64 `[count]`.
            cache_mask: `[1, context]`, 0 where the cache is filled and a large negative number elsewhere.
            caches: of each layer past key, past value `[heads, context, head_dim]`, cross key, cross value `[heads,
                positions, head_dim]`.
        """
        rows = self.embed_tokens(tokens) + self.positions.index_select(0, position)
        x, new = rows.view(1, len(tokens), -1), list[Tensor]()
        for index, layer in enumerate(self.layers):
            x, *pair = layer(x, cache_mask, self.later, *caches[4 * index : 4 * index + 4])
            new += pair
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
        self, x: Tensor, mask: Tensor, later: Tensor, *caches: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (key, value, cross_key, cross_value), count = caches, x.shape[1]
        attend, normed = self.self_attn, self.self_attn_layer_norm(x)
        query = attend.split(attend.q_proj(normed))
        new_key, new_value = attend.split(attend.k_proj(normed)), attend.split(attend.v_proj(normed))
        before, now = scores(query, key) + mask, scores(query, new_key)
        if count > 1:
            now = now + later
        weights = torch.softmax(torch.cat([before, now], -1), -1)
        context = key.shape[1]
        mixed = mix(weights[..., :context], value) + mix(weights[..., context:], new_value)
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
        mixed = mix(torch.softmax(scores(query, key), -1), value)
        return x + self.out_proj(mixed.view(1, 1, -1) if mixed.shape[1] == 1 else join_heads(mixed))


def scores(query: Tensor, key: Tensor) -> Tensor:
    """`[heads, count, head_dim]` with `[heads, length, head_dim]`: `[heads, count, length]`; no axis for one token."""
    heads, length, _ = key.shape
    if query.shape[1] == 1:
        return torch.bmm(key, query.view(heads, -1, 1)).view(heads, length)
    return torch.bmm(key, query.transpose(1, 2)).transpose(1, 2)


def mix(weights: Tensor, value: Tensor) -> Tensor:
    """What `scores` became, with `[heads, length, head_dim]`: `[heads, count, head_dim]`."""
    heads, length, _ = value.shape
    weights = weights.view(heads, -1, length)
    return torch.bmm(weights, value) if length > 1 else weights * value
