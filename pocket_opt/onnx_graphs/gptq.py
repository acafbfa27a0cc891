"""GPTQ: rounding that makes up for its own error, from what the layer's input looks like on calibration audio.

Columns are rounded in order; the error of each is spread over those that are not rounded yet, so that the layer's
*output* changes least, not its weights. Source: Frantar et al. 2022, arXiv 2210.17323 (Cholesky form, blocks of lazy
updates). Columns keep their order, because MatMulNBits has no fast kernel for a permuted one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pocket_opt.onnx_graphs.block_quantization import BlockTensor, Floats, fit_of, levels_of, pack

DAMPING = 0.01
"""Of the mean diagonal, added to it: the paper's value."""


def quantize_gptq(
    weight: Floats, moment: Floats, *, bits: int, block_size: int, symmetric: bool
) -> BlockTensor:
    """Quantize `weight` [N, K] as `quantize_blocks` does, its scales by `k_quant`, given the input's moment.

    Args:
        moment: x^T x [K, K], summed over the rows of the layer's input x.
    """
    fit = fit_of("k_quant", symmetric=symmetric)
    rows, columns = weight.shape
    padding = -columns % block_size
    left = np.pad(weight, ((0, 0), (0, padding))).astype(np.float32)
    spread = _spread(np.pad(moment, ((0, padding), (0, padding))))
    levels = np.zeros(left.shape, np.uint8)
    scales = np.zeros((rows, left.shape[1] // block_size), np.float32)
    zeros = np.zeros_like(scales)
    for block in range(scales.shape[1]):
        begin, end = block * block_size, (block + 1) * block_size
        scale, zero = (part[:, 0] for part in fit(left[:, None, begin:end], bits))
        scales[:, block], zeros[:, block] = scale, zero
        errors = np.zeros((rows, block_size), np.float32)
        for column in range(begin, end):
            rounded = levels_of(left[:, column], scale, zero, bits)
            levels[:, column] = rounded
            error = (left[:, column] - (rounded - zero) * scale) / spread[column, column]
            left[:, column:end] -= np.outer(error, spread[column, column:end])
            errors[:, column - begin] = error
        left[:, end:] -= errors @ spread[begin:end, end:]
    packed = pack(levels.reshape(rows, -1, block_size), bits)
    points = None if symmetric else pack(zeros.astype(np.uint8), bits)
    return BlockTensor(bits, packed, scales, points, columns)


def _spread(moment: Floats) -> Floats:
    """The upper Cholesky factor of the damped moment's inverse; inputs that are always zero take no error."""
    damped: npt.NDArray[np.float64] = moment.astype(np.float64)
    diagonal = np.diag(damped).copy()
    step = DAMPING * diagonal.mean() or 1.0
    damped[np.diag_indices_from(damped)] = np.where(diagonal == 0, step, diagonal) + step
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T, np.float32)
