"""The least time that a Whisper of given dimensions needs here: counted operations and bytes over measured rates.

Linear layers in 8 bits, convolutions and attention products in fp32, the cross-attention cache read in 16 bits. The
encoder is bound by arithmetic, a token by reading; nothing else is counted, so no engine can reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.machine import Rates


@dataclass(frozen=True)
class Floor:
    """Seconds of the encoder with the cross-attention cache, of one token, and of the whole run."""

    encoder_s: float
    token_s: float
    total_s: float


def floor(dims: Mapping[str, Any], rates: Rates, tokens: int) -> Floor:
    """The floor for one window and `tokens` tokens; `dims` as in an artifact's metadata."""
    width, length = dims["d_model"], dims["source_positions"]
    encoder_layer = 4 * width**2 + 2 * width * dims["encoder_ffn_dim"]
    linear = length * (dims["encoder_layers"] * encoder_layer + dims["decoder_layers"] * 2 * width**2)
    attention = dims["encoder_layers"] * 2 * length**2 * width
    convolutions = 3 * width * length * (2 * dims["mels"] + width)
    encoder = 2e-9 * (linear / rates.int8_gop_s + (attention + convolutions) / rates.fp32_gflop_s)
    decoder_layer = 6 * width**2 + 2 * width * dims["decoder_ffn_dim"]
    weights = dims["decoder_layers"] * decoder_layer + dims["vocab"] * width
    cache = dims["decoder_layers"] * 2 * length * width * 2
    read = weights + cache
    fits = read <= rates.cache_bytes
    token = 1e-9 * read / (rates.cache_gb_s if fits else rates.stream_gb_s)
    return Floor(encoder, token, encoder + tokens * token)
