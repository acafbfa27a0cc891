"""Which tokens may come next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .audio import Floats
from .vocabulary import Vocabulary

Tokens = np.ndarray[Any, np.dtype[np.int64]]


class Rules:
    """Which tokens may come next: the logits processors of transformers' generate() for Whisper, in its order."""

    def __init__(self, generation: Mapping[str, Any], vocabulary: Vocabulary, size: int) -> None:
        never, not_first = (generation.get(key) or () for key in ("suppress_tokens", "begin_suppress_tokens"))
        self._never = [token for token in never if 0 <= token < size]
        self._not_first = [token for token in not_first if 0 <= token < size]
        self._latest_first = generation.get("max_initial_timestamp_index")
        self._vocabulary = vocabulary

    def apply(self, scores: Floats, generated: Tokens, *, timestamps: bool) -> None:
        """Set forbidden entries of `scores` `[batch, vocab]` to -inf, given what rows `[batch, n]` have so far."""
        scores[:, self._never if generated.shape[1] else self._never + self._not_first] = -np.inf
        if timestamps:
            for row, sequence in zip(scores, generated.tolist(), strict=True):
                self._apply_timestamps(row, sequence)

    def _apply_timestamps(self, row: Floats, sequence: list[int]) -> None:
        begin = self._vocabulary.timestamp_begin
        row[self._vocabulary.no_timestamps] = -np.inf
        after_time = bool(sequence) and sequence[-1] >= begin
        after_pair = after_time and (len(sequence) == 1 or sequence[-2] >= begin)
        if after_pair:  # text has to follow
            row[begin:] = -np.inf
        elif after_time:  # the second of the pair has to follow, or the end
            row[: self._vocabulary.end] = -np.inf
        times = [token for token in sequence if token >= begin]
        if times:  # never back; the same time again only as the second of a pair
            row[begin : times[-1] + (not after_time or after_pair)] = -np.inf
        if not sequence:
            row[:begin] = -np.inf
            if self._latest_first is not None:
                row[begin + self._latest_first + 1 :] = -np.inf
        if log_sum_exp(row[begin:]) > row[:begin].max():  # all times together outweigh every single word
            row[:begin] = -np.inf


def log_sum_exp(scores: Floats) -> Any:
    """log(sum(exp(scores))) over the last axis; -inf where every score is."""
    peak = np.maximum(scores.max(-1, keepdims=True), np.finfo(np.float32).min)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(scores - peak).sum(-1)) + peak[..., 0]
