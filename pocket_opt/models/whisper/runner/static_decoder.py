"""The decoder with static shapes, one clip and one token a call: its caches lie here and are filled row by row."""

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
"""One call of the graph: inputs by name to outputs by name, `logits` [1, 1, vocab] and the `new_*` rows among them."""


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
    """Feeds a graph with static shapes; `shapes` and `dtype` are those of its `past_*` inputs."""

    def __init__(self, call: Call, shapes: Mapping[str, Sequence[int]], dtype: Any) -> None:
        self._call, self._shapes, self._dtype = call, shapes, dtype

    def start(self, crosses: Sequence[Arrays]) -> list[Row]:
        """Empty rows for clips of which the encoder gave `crosses`."""
        return [
            Row(cross, {name: np.zeros(shape, self._dtype) for name, shape in self._shapes.items()})
            for cross in crosses
        ]

    def decode(self, tokens: Tokens, rows: Sequence[Row]) -> Floats:
        """Feed `tokens` [batch, length] to the rows, which are changed: logits [batch, length, vocab]."""
        return np.stack(
            [
                np.concatenate([self._step(int(token), row) for token in fed], axis=1)[0]
                for fed, row in zip(tokens, rows, strict=True)
            ]
        )

    def _step(self, token: int, row: Row) -> Floats:
        context = next(iter(self._shapes.values()))[2]
        mask = np.full((1, 1, 1, context), MASKED, self._dtype)
        mask[..., : row.filled] = 0
        outputs = dict(
            self._call(
                {
                    "tokens": np.array([[token]], np.int64),
                    "position": np.array([row.filled], np.int64),
                    "cache_mask": mask,
                    **row.cross,
                    **row.past,
                }
            )
        )
        logits: Floats = outputs.pop("logits").astype(np.float32, copy=False)
        for name, new in outputs.items():
            row.past[name.replace("new_", "past_")][:, :, row.filled] = new[:, :, 0]
        row.filled += 1
        return logits
