"""Which tokens may come next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .audio import Floats
from .vocabulary import Vocabulary

Tokens = np.ndarray[Any, np.dtype[np.int64]]


class Rules:
    """Which tokens may come next: the logits processors of transformers' generate() for Whisper, in its order.

    Attributes:
        vocabulary: the special ids that they are about.
    """

    def __init__(self, generation: Mapping[str, Any], vocabulary: Vocabulary, size: int) -> None:
        never, not_first = (
            {token for token in generation.get(key) or () if 0 <= token < size}
            for key in ("suppress_tokens", "begin_suppress_tokens")
        )
        # Arrays: numpy would turn a list into one again at each step.
        self._never = np.array(sorted(never), np.int64)
        self._never_first = np.array(sorted(never | not_first), np.int64)
        self._latest_first = generation.get("max_initial_timestamp_index")
        self.vocabulary = vocabulary

    def apply(self, scores: Floats, generated: Tokens, *, timestamps: bool) -> None:
        """Set forbidden entries of `scores` `[batch, vocab]` to -inf, given what rows `[batch, n]` have so far."""
        scores[:, self._never if generated.shape[1] else self._never_first] = -np.inf
        if timestamps:
            for row, sequence in zip(scores, generated.tolist(), strict=True):
                self._apply_timestamps(row, sequence)

    def _apply_timestamps(self, row: Floats, sequence: list[int]) -> None:
        begin = self.vocabulary.timestamp_begin
        row[self.vocabulary.no_timestamps] = -np.inf
        after_time = bool(sequence) and sequence[-1] >= begin
        after_pair = after_time and (len(sequence) == 1 or sequence[-2] >= begin)
        if after_pair:  # text has to follow
            row[begin:] = -np.inf
        elif after_time:  # the second of the pair has to follow, or the end
            row[: self.vocabulary.end] = -np.inf
        latest = next((token for token in reversed(sequence) if token >= begin), None)
        if latest is not None:  # never back; the same time again only as the second of a pair
            row[begin : latest + (not after_time or after_pair)] = -np.inf
        if not sequence:
            row[:begin] = -np.inf
            if self._latest_first is not None:
                row[begin + self._latest_first + 1 :] = -np.inf
        if log_sum_exp(row[begin:]) > row[:begin].max():  # all times together outweigh every single word
            row[:begin] = -np.inf


def log_sum_exp(scores: Floats) -> Any:
    """log(sum(exp(scores))) over the last axis; -inf where every score is."""
    peak = np.maximum(scores.max(-1, keepdims=True), np.finfo(np.float32).min)
    powers = scores - peak
    np.exp(powers, out=powers)
    with np.errstate(divide="ignore"):
        return np.log(powers.sum(-1)) + peak[..., 0]
