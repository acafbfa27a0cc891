"""Finds the grid on which weights lie that were rounded before, so that storing them in integers loses nothing.

Rounding to nearest would choose the scale of a block from its peak; where the method that rounded it left the outermost
level empty, that is another scale, and the weights would be rounded twice. But weights on a grid betray it: all of a
block are whole multiples of one step, and the peak is at most 2^bits - 1 of them. A block of other weights passes for
one with a chance of (2 * `NEAR`)^(size - 1) for each step that is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NEAR = 1e-3
"""How far from a multiple a weight may lie, in steps: fp32 arithmetic on the way here leaves a few 1e-6."""


@dataclass(frozen=True)
class Grid:
    """Scales and zero points `[N, blocks]`; those of blocks that were not `found` to lie on a grid mean nothing."""

    scales: Floats
    zeros: Floats
    found: npt.NDArray[np.bool_]


def find_grid(blocks: Floats, bits: int, *, symmetric: bool) -> Grid:
    """The grids of `blocks` `[N, blocks, size]`. A block of zeros lies on every grid."""
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    peak = np.abs(blocks).max(axis=2)
    scales, zeros = np.ones_like(peak), np.full_like(peak, half)
    found = peak == 0
    for steps in range(1, top + 1):
        open_blocks = np.nonzero(~found)
        if not len(open_blocks[0]):
            break
        step = peak[open_blocks] / np.float32(steps)
        levels = blocks[open_blocks] / step[:, None]
        whole = np.rint(levels)
        low, high = whole.min(axis=1), whole.max(axis=1)
        fits = np.abs(levels - whole).max(axis=1) < NEAR
        if symmetric:
            turned = (
                high >= half
            )  # then the lowest level stands for the highest value, under a negative scale
            fits &= np.where(turned, (high <= half) & (low > -half), low >= -half)
            step, zero = np.where(turned, -step, step), np.full_like(step, half)
        else:
            zero = np.maximum(0, -low)
            fits &= np.maximum(high, 0) + zero <= top
        place = tuple(axis[fits] for axis in open_blocks)
        scales[place], zeros[place], found[place] = step[fits], zero[fits], True
    return Grid(scales, zeros, found)
