"""How near arrays are to their references: cosine, signal-to-quantization-noise ratio, largest error, equal top choice.

Pairs are added one at a time and only sums are kept, so that logits of a large vocabulary never pile up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTICAL_DB = 200.0
"""Reported for equal arrays, whose true ratio is infinite; float32 rounding alone is near 150 dB."""


class Comparison:
    """Sums over all pairs of (reference, other) added so far.

    Attributes:
        count: values compared.
        rows: vectors along the last axis compared.
        top1_equal: those whose largest value is at the same index.
        max_error: largest absolute difference.
    """

    def __init__(self) -> None:
        self.count = self.rows = self.top1_equal = 0
        self.max_error = 0.0
        self._reference = self._other = self._product = self._noise = 0.0

    def add(self, reference: NDArray[Any], other: NDArray[Any]) -> None:
        """Add a pair of one shape `[..., values]`; ValueError if the shapes differ."""
        if reference.shape != other.shape:
            raise ValueError(f"arrays of shapes {reference.shape} and {other.shape} cannot be compared")
        self.rows += math.prod(reference.shape[:-1])
        self.top1_equal += int((reference.argmax(axis=-1) == other.argmax(axis=-1)).sum())
        a, b = reference.ravel().astype("float64"), other.ravel().astype("float64")
        difference = a - b
        self.count += a.size
        self.max_error = max(self.max_error, float(abs(difference).max(initial=0.0)))
        self._reference += float(a @ a)
        self._other += float(b @ b)
        self._product += float(a @ b)
        self._noise += float(difference @ difference)

    @property
    def cosine(self) -> float:
        """Cosine between all references and all others, each taken as one vector; 1 if both are zero."""
        norms = math.sqrt(self._reference * self._other)
        if norms == 0:
            return 1.0 if self._noise == 0 else 0.0
        return max(-1.0, min(1.0, self._product / norms))

    @property
    def sqnr_db(self) -> float:
        """`10 log10(power of references / power of differences)`, within +-`IDENTICAL_DB`."""
        if self._noise == 0:
            return IDENTICAL_DB
        if self._reference == 0:
            return -IDENTICAL_DB
        return max(-IDENTICAL_DB, min(IDENTICAL_DB, 10 * math.log10(self._reference / self._noise)))

    @property
    def top1_agreement(self) -> float:
        """Rows with the same top choice, in %."""
        return 100 * self.top1_equal / self.rows
