"""What the graphs tell of their cross-attention, where they were exported with `word_timestamps`.

The decoder gives the queries of the layers that align, `cross_query_{layer}` `[batch, length, d_model]`: a value that
it has anyway, so a step that does not ask for it pays nothing, whatever operator computes the attention. The keys are
the encoder's, whatever their precision; a decoder without cache gives those, too, as `cross_key_{layer}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .audio import Floats
from .word_times import Attention, Compared

QUERY, KEY, SCALE = "cross_query_", "cross_key_", "cross_key_scale_"
Arrays = Mapping[str, np.ndarray[Any, Any]]


def tells_attention(name: str) -> bool:
    """Whether an output of a decoder is only there for alignment."""
    return name.startswith((QUERY, KEY))


def attention(found: Arrays, encoded: Arrays, heads: int) -> Attention:
    """By layer what the decoder's outputs `found` and the encoder's, `encoded`, tell of the cross-attention."""
    layers = sorted(int(name.removeprefix(QUERY)) for name in found if name.startswith(QUERY))
    return {
        layer: Compared(
            split_heads(found[f"{QUERY}{layer}"], heads),
            split_heads(found[f"{KEY}{layer}"], heads) if f"{KEY}{layer}" in found else _keys(encoded, layer),
        )
        for layer in layers
    }


def split_heads(joined: np.ndarray[Any, Any], heads: int) -> Floats:
    """`[batch, length, d_model]` as `[batch, heads, length, head_dim]`."""
    batch, length, width = joined.shape
    split: Floats = (
        np.asarray(joined, np.float32).reshape(batch, length, heads, width // heads).swapaxes(1, 2)
    )
    return split


def _keys(encoded: Arrays, layer: int) -> Floats:
    """Keys `[batch, heads, positions, head_dim]` in 32 bits; those of 8 bits lie transposed, beside their scales."""
    stored, scale = np.asarray(encoded[f"{KEY}{layer}"], np.float32), encoded.get(f"{SCALE}{layer}")
    keys: Floats = stored if scale is None else stored.swapaxes(2, 3) * scale
    return keys
