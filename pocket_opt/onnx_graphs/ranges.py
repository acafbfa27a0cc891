"""What was seen of a value on real inputs, and the range and the grid of integers that it is given for it.

Extremes are exact; the rest is a histogram over [-reach, reach] whose reach doubles when a value lies beyond it, so one
walk over the inputs is enough, and memory does not grow with their number. Scores to which a mask was added are counted
without the masked ones: -60000 would leave three 16-bit levels to all the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Method = Literal["minmax", "percentile", "mse"]

BINS = 2048
MASKED_BELOW = -10_000.0
"""Scores below it were masked (by -60000); no activation of a model gets there."""
MASK_ROOM = 20.0
"""How far below the lowest score masked ones are put: their softmax is below exp(-20), which 16 bits store as 0."""
NARROWEST = 1e-4
"""A range is at least so wide: scales near 0 overflow in kernels (ONNX Runtime's quantizer has the same limit)."""
HEADROOM = 0.125
"""What 16-bit grids of `minmax` reach beyond either end, as a share of the range: a louder voice is not clipped, and it
costs a third of a bit."""
MSE_STEPS = np.linspace(1.0, 0.1, 46)
"""Shares of each end of a range that are tried."""


@dataclass
class Spread:
    """What was seen of one value: extremes, whether some of it was masked, and how often it was how large."""

    low: float = math.inf
    high: float = -math.inf
    masked: bool = False
    reach: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.float64))

    def see(self, low: float, high: float, lowest: float, sample: Array) -> None:
        """Add extremes without and with what is masked (`lowest`), and a `sample` of the values."""
        self.masked |= lowest < MASKED_BELOW
        if high < MASKED_BELOW:
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        shown = sample[sample > MASKED_BELOW]
        if shown.size:
            self._stretch(float(np.abs(shown).max()))
            places = ((shown + self.reach) * (BINS / (2 * self.reach))).astype(np.int64)
            self.counts += np.bincount(places.clip(max=BINS - 1), minlength=BINS)

    def merge(self, other: Spread) -> None:
        """Add all that `other` saw."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.masked |= other.masked
        if other.reach:
            self._stretch(other.reach)
            other._stretch(self.reach)
            self.counts += other.counts

    def _stretch(self, peak: float) -> None:
        """Make the reach, a power of two, at least `peak`."""
        wanted = 2.0 ** math.ceil(math.log2(max(peak, NARROWEST)))
        if not self.reach:
            self.reach = wanted
        while self.reach < wanted:
            inner = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4), inner, np.zeros(BINS // 4)])
            self.reach *= 2

    def range(self, method: Method, bits: int, percentile: float) -> tuple[float, float]:
        """Lowest and highest value that gets a level of its own; (0, 0) where nothing was seen."""
        if self.low > self.high:
            return 0.0, 0.0
        if method == "minmax":
            room = HEADROOM * (self.high - self.low) if bits == 16 else 0.0
            return self.low - room, self.high + room
        low, high = self._quantiles(percentile) if method == "percentile" else self._least_error(bits)
        return max(low, self.low), min(high, self.high)

    def _quantiles(self, percentile: float) -> tuple[float, float]:
        total = np.cumsum(self.counts) / self.counts.sum()
        tail = (1 - percentile / 100) / 2
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        first, last = np.searchsorted(total, tail, "right"), np.searchsorted(total, 1 - tail)
        return float(edges[first]), float(edges[last + 1])

    def _least_error(self, bits: int) -> tuple[float, float]:
        """The ends with the least sum of squared errors, by rounding inside and clipping outside."""
        width = 2 * self.reach / BINS
        centres = np.linspace(-self.reach + width / 2, self.reach - width / 2, BINS)
        lows, highs = min(self.low, 0) * MSE_STEPS, max(self.high, 0) * MSE_STEPS
        below = np.array([self.counts @ np.square(np.minimum(centres - low, 0)) for low in lows])
        above = np.array([self.counts @ np.square(np.maximum(centres - high, 0)) for high in highs])
        rounding = np.square((highs[None, :] - lows[:, None]) / (2**bits - 1)) / 12 * self.counts.sum()
        best = np.unravel_index(np.argmin(below[:, None] + above[None, :] + rounding), rounding.shape)
        return float(lows[best[0]]), float(highs[best[1]])


@dataclass(frozen=True)
class Grid:
    """Unsigned levels: value = (level - zero_point) * scale."""

    scale: np.float32
    zero_point: int
    bits: int

    @staticmethod
    def over(low: float, high: float, bits: int) -> Grid:
        """The levels that cover low..high, with one at exactly 0."""
        low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
        high = max(high, low + NARROWEST)
        scale = np.float32((high - low) / top)
        return Grid(scale, int(np.clip(np.rint(-low / scale), 0, top)), bits)

    @property
    def dtype(self) -> npt.DTypeLike:
        """Of the levels."""
        return np.uint16 if self.bits == 16 else np.uint8

    def levels(self, array: Array) -> Array:
        """`array` in levels; what lies beyond them is clipped."""
        found = np.rint(array / self.scale) + self.zero_point
        levels: Array = np.clip(found, 0, 2**self.bits - 1).astype(self.dtype)
        return levels
