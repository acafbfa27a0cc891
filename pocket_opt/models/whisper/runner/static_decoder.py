"""The decoder with static shapes, one clip a call: its caches lie here and are filled row by row.

There may be several graphs of it, each for a fixed number of tokens. A prompt goes through the longer one, in parts
where it has more tokens than fit, and with padding where it has fewer; what comes out for padding is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .audio import Floats
from .rules import Tokens

MASKED = -60_000.0
"""Added to the scores of rows that are not filled; within the range of fp16."""

Arrays = Mapping[str, np.ndarray[Any, Any]]
Call = Callable[[Arrays], Arrays]
"""One call of a graph: inputs by name to outputs by name, `logits` [1, tokens, vocab] and the `new_*` rows among them.
"""


@dataclass
class Row:
    """One clip: what the encoder gave, and the caches [1, heads, context, head_dim] with the number of rows filled."""

    cross: Arrays
    past: Arrays
    filled: int = 0

    def copy(self) -> Row:
        """Another row that goes on from here."""
        return Row(self.cross, {name: cache.copy() for name, cache in self.past.items()}, self.filled)


class StaticDecoder:
    """Feeds graphs with static shapes.

    Args:
        calls: number of tokens -> the graph that takes so many.
        shapes, dtype: of the `past_*` inputs, the same for all graphs.
        mask_dtype: of `cache_mask`.
    """

    def __init__(
        self, calls: Mapping[int, Call], shapes: Mapping[str, Sequence[int]], dtype: Any, mask_dtype: Any
    ) -> None:
        self._calls, self._shapes, self._dtype = dict(sorted(calls.items())), shapes, dtype
        self._mask_dtype = mask_dtype
        self._context = int(next(iter(shapes.values()))[2])

    def start(self, crosses: Sequence[Arrays]) -> list[Row]:
        """Empty rows for clips of which the encoder gave `crosses`."""
        return [
            Row(cross, {name: np.zeros(shape, self._dtype) for name, shape in self._shapes.items()})
            for cross in crosses
        ]

    def decode(self, tokens: Tokens, rows: Sequence[Row]) -> Floats:
        """Feed `tokens` [batch, length] to the rows, which are changed: logits [batch, length, vocab]."""
        return np.stack([self._feed(fed, row) for fed, row in zip(tokens, rows, strict=True)])

    def _feed(self, tokens: Tokens, row: Row) -> Floats:
        """Logits [length, vocab] of `tokens` [length], by as few calls as they fit in."""
        found, longest = [], max(self._calls)
        for first in range(0, len(tokens), longest):
            part = tokens[first : first + longest]
            size = next(size for size in self._calls if size >= len(part))
            found.append(self._call(part, size, row))
        return np.concatenate(found)

    def _call(self, tokens: Tokens, size: int, row: Row) -> Floats:
        count, end = len(tokens), row.filled + len(tokens)
        padded = np.zeros((1, size), np.int64)
        padded[0, :count] = tokens
        mask = np.full((1, 1, 1, self._context), MASKED, self._mask_dtype)
        mask[..., : row.filled] = 0
        # Padding beyond the last position reads that of the last one: a Gather has to find a row.
        position = np.minimum(np.arange(row.filled, row.filled + size), self._context - 1)
        inputs = {"tokens": padded, "position": position, "cache_mask": mask, **row.cross, **row.past}
        outputs = dict(self._calls[size](inputs))
        logits: Floats = outputs.pop("logits")[0, :count].astype(np.float32, copy=False)
        for name, new in outputs.items():
            row.past[name.replace("new_", "past_")][:, :, row.filled : end] = new[:, :, :count]
        row.filled = end
        return logits
