"""Weights in 2, 4 or 8 bits with one scale per block of consecutive inputs, as ONNX Runtime's MatMulNBits stores them.

Three ways to choose the scales without data (with data: `gptq.py`):
- `rtn`, round to nearest: from the largest magnitude (or the range) of each block.
- `k_quant`: of 19 scales around that, the one with the least weighted error, re-fitted by least squares
  (`make_qx_quants`, `make_qkx2_quants` of llama.cpp, ggml-quants.c).
- `hqq`: half-quadratic quantization (Badri and Shaji 2023, mobiusml.github.io/hqq_blog): a loss that forgives outliers.
  The original fits fractional zero points, for which ONNX Runtime 1.31 has no fast CPU kernel (20 times slower at 4
  bits, refused at 8); so here scale and whole zero point are fitted in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocket_opt.onnx_graphs.grids import Grid, find_grid

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Algorithm = Literal["rtn", "k_quant", "hqq", "grid"]
Fit = Callable[[Floats, int], tuple[Floats, Floats]]
"""Scales and zero points, both [N, blocks], for blocks [N, blocks, block_size] in so many bits."""

CHUNK = 4_000_000
"""Weights quantized at a time: bounds the memory for temporaries to about 100 MB."""


@dataclass(frozen=True)
class BlockTensor:
    """A quantized [N, K] weight: `w[n, k] = (q[n, k] - zero_point) * scale`, `zero_point` 2^(bits-1) where not given.

    Attributes:
        packed: [N, blocks, block_size * bits / 8], low bits first; the last block is padded with zeros.
        scales: [N, blocks].
        zero_points: [N, ceil(blocks * bits / 8)], packed like the weights; None where symmetric.
        columns: K.
    """

    bits: int
    packed: Bytes
    scales: Floats
    zero_points: Bytes | None
    columns: int

    def dequantize(self) -> Floats:
        """The weight [N, K] that the kernels compute with."""
        rows, blocks = self.scales.shape
        levels = unpack(self.packed, self.bits).astype(np.float32)
        zeros = np.full((rows, blocks), 1 << (self.bits - 1), np.float32)
        if self.zero_points is not None:
            zeros = unpack(self.zero_points, self.bits)[:, :blocks].astype(np.float32)
        weights = (levels - zeros[:, :, None]) * self.scales[:, :, None]
        return weights.reshape(rows, -1)[:, : self.columns]

    def sqnr_db(self, weight: Floats) -> float:
        """Signal to quantization noise in dB against the weight [N, K] that was quantized."""
        step = _rows_at_once(self.columns)
        noise = signal = 0.0
        for start in range(0, len(weight), step):
            rows = slice(start, start + step)
            zeros = None if self.zero_points is None else self.zero_points[rows]
            part = BlockTensor(self.bits, self.packed[rows], self.scales[rows], zeros, self.columns)
            noise += float(np.linalg.norm(weight[rows] - part.dequantize())) ** 2
            signal += float(np.linalg.norm(weight[rows])) ** 2
        return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))


def quantize_blocks(
    weight: Floats, *, bits: int, block_size: int, symmetric: bool = True, algorithm: Algorithm = "rtn"
) -> BlockTensor:
    """Quantize `weight` [N, K] (rows are outputs) to `bits` (2, 4 or 8) in blocks of `block_size` along K."""
    rows, columns = weight.shape
    fit = fit_of(algorithm, symmetric=symmetric)
    packed, scales, points = [], [], []
    step = _rows_at_once(columns)
    for start in range(0, rows, step):
        rows_here = np.ascontiguousarray(weight[start : start + step])
        part = np.pad(rows_here, ((0, 0), (0, -columns % block_size)))
        blocks = part.reshape(len(part), -1, block_size)
        scale, zero = fit(blocks, bits)
        packed.append(pack(levels_of(blocks, scale[:, :, None], zero[:, :, None], bits), bits))
        scales.append(scale)
        points.append(pack(zero.astype(np.uint8), bits))
    zero_points = None if symmetric else np.concatenate(points)
    return BlockTensor(bits, np.concatenate(packed), np.concatenate(scales), zero_points, columns)


def fit_of(algorithm: Algorithm, *, symmetric: bool) -> Fit:
    """How `algorithm` chooses scales and zero points; ValueError where it needs zero points and may have none."""
    if (algorithm, symmetric) not in _FITS:
        raise ValueError(f"{algorithm} has no symmetric form")
    return _FITS[algorithm, symmetric]


def levels_of(weight: Floats, scales: Floats, zeros: Floats, bits: int) -> Bytes:
    """The nearest levels, 0 to 2^bits - 1."""
    levels: Bytes = np.clip(np.rint(weight / scales) + zeros, 0, (1 << bits) - 1).astype(np.uint8)
    return levels


_HQQ_STEPS, _HQQ_BETA = 20, np.float32(10)
"""Iterations, and the weight of the quadratic term in units of a step (that of the reference implementation)."""


def _rows_at_once(columns: int) -> int:
    return max(1, CHUNK // columns)


def _nonzero(scales: Floats) -> Floats:
    return np.where(scales == 0, np.float32(1), scales)


def _peak(blocks: Floats) -> Floats:
    """The value of largest magnitude of each block, with its sign: [N, blocks]."""
    where = np.abs(blocks).argmax(axis=2, keepdims=True)
    peaks: Floats = np.take_along_axis(blocks, where, axis=2)[:, :, 0]
    return peaks


def _importance(blocks: Floats) -> Floats:
    """What an error weighs: more at large weights, as in llama.cpp without calibration data."""
    level: Floats = np.sqrt(np.mean(np.square(blocks), axis=2, keepdims=True))
    return np.abs(blocks) + level


def _symmetric_rtn(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    """The peak maps to the lowest level, -2^(bits-1), because the scale of one side more is free."""
    half = 1 << (bits - 1)
    scales = _nonzero(_peak(blocks) / np.float32(-half))
    return scales, np.full_like(scales, half)


def _symmetric_search(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    half = 1 << (bits - 1)
    peak = _nonzero(_peak(blocks))
    importance = _importance(blocks)
    best, scales = np.full(peak.shape, -1, np.float32), peak / np.float32(-half)
    for step in range(-9, 10):
        inverse = np.float32(-(half + 0.1 * step)) / peak
        levels = np.clip(np.rint(blocks * inverse[:, :, None]), -half, half - 1)
        weighted = importance * levels
        cross, power = np.sum(weighted * blocks, axis=2), np.sum(weighted * levels, axis=2)
        power = _nonzero(power)
        gain = cross * cross / power
        better = gain > best
        best, scales = np.where(better, gain, best), np.where(better, cross / power, scales)
    return _nonzero(scales), np.full_like(scales, half)


def _range_rtn(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    """Zero stays exactly representable, so that padding and pruned weights stay zero."""
    low = np.minimum(blocks.min(axis=2), 0)
    high = np.maximum(blocks.max(axis=2), 0)
    scales = _nonzero((high - low) / np.float32((1 << bits) - 1))
    return scales, np.rint(-low / scales)


def _range_search(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    top = (1 << bits) - 1
    scales, zeros = _range_rtn(blocks, bits)
    importance = _importance(blocks)
    widest, best = scales * top, np.full(scales.shape, np.inf, np.float32)
    chosen = scales, zeros
    for step in range(-9, 10):
        tried = widest / np.float32(top + 0.1 * step)
        at = np.clip(np.rint(zeros * scales / tried), 0, top)
        levels = np.clip(np.rint(blocks / tried[:, :, None]) + at[:, :, None], 0, top) - at[:, :, None]
        weighted = importance * levels
        fitted = _nonzero(np.sum(weighted * blocks, axis=2) / _nonzero(np.sum(weighted * levels, axis=2)))
        error = np.sum(importance * np.square(blocks - levels * fitted[:, :, None]), axis=2)
        better = error < best
        best = np.where(better, error, best)
        chosen = np.where(better, fitted, chosen[0]), np.where(better, at, chosen[1])
    return chosen


def _range_half_quadratic(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    """Minimizes the sum of |error|^0.7: what a shrinkage takes for outliers is left out of the next least squares."""
    top = (1 << bits) - 1
    scales, zeros = _range_rtn(blocks, bits)
    best, chosen = np.full(scales.shape, np.inf, np.float32), (scales, zeros)
    for _ in range(_HQQ_STEPS):
        centred = levels_of(blocks, scales[:, :, None], zeros[:, :, None], bits) - zeros[:, :, None]
        error = blocks - centred * scales[:, :, None]
        loss = np.sum(np.abs(error) ** np.float32(0.7), axis=2)
        better = loss < best
        best = np.where(better, loss, best)
        chosen = np.where(better, scales, chosen[0]), np.where(better, zeros, chosen[1])
        steps = np.abs(error) / np.abs(scales[:, :, None])
        outlying = np.sign(error) * np.maximum(steps - (steps + 1e-6) ** np.float32(-0.3) / _HQQ_BETA, 0)
        kept = blocks - outlying * np.abs(scales[:, :, None])
        fitted = np.sum(kept * centred, axis=2) / _nonzero(np.sum(np.square(centred), axis=2))
        scales = np.where(fitted > 0, fitted, scales)
        zeros = np.clip(
            np.rint(np.mean(centred + zeros[:, :, None] - kept / scales[:, :, None], axis=2)), 0, top
        )
    return chosen


def _symmetric_grid(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    return _kept(find_grid(blocks, bits, symmetric=True), _symmetric_rtn(blocks, bits))


def _range_grid(blocks: Floats, bits: int) -> tuple[Floats, Floats]:
    return _kept(find_grid(blocks, bits, symmetric=False), _range_rtn(blocks, bits))


def _kept(grid: Grid, otherwise: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    return np.where(grid.found, grid.scales, otherwise[0]), np.where(grid.found, grid.zeros, otherwise[1])


_FITS: dict[tuple[str, bool], Fit] = {
    ("rtn", True): _symmetric_rtn,
    ("rtn", False): _range_rtn,
    ("k_quant", True): _symmetric_search,
    ("k_quant", False): _range_search,
    ("hqq", False): _range_half_quadratic,
    ("grid", True): _symmetric_grid,
    ("grid", False): _range_grid,
}


def pack(levels: Bytes, bits: int) -> Bytes:
    """`8 / bits` levels to a byte along the last axis, the first in the low bits."""
    if bits == 8:
        return levels
    count = 8 // bits
    padded = np.pad(levels, [(0, 0)] * (levels.ndim - 1) + [(0, -levels.shape[-1] % count)])
    together = padded.reshape(*padded.shape[:-1], -1, count) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: Bytes = np.bitwise_or.reduce(together, axis=-1)
    return packed


def unpack(packed: Bytes, bits: int) -> Bytes:
    """The levels that `pack` put together, along the last axis."""
    if bits == 8:
        return packed
    apart = packed[..., None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    return apart.reshape(*packed.shape[:-1], -1)
