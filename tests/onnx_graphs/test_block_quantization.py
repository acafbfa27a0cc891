"""Block quantization: error bounds, packing, and scales that are found by search."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.onnx_graphs import block_quantization
from pocket_opt.onnx_graphs.block_quantization import Algorithm, quantize_blocks

WEIGHT = np.random.default_rng(3).standard_t(5, (48, 96)).astype(np.float32)
EVERY = pytest.mark.parametrize(
    ("bits", "symmetric", "algorithm"),
    [
        (bits, symmetric, algorithm)
        for bits in (2, 4, 8)
        for symmetric in (True, False)
        for algorithm in ("rtn", "k_quant", "hqq")
        if not (symmetric and algorithm == "hqq")
    ],
)


@EVERY
def test_the_error_is_that_of_the_bits(bits: int, symmetric: bool, algorithm: Algorithm) -> None:
    blocks = quantize_blocks(WEIGHT, bits=bits, block_size=32, symmetric=symmetric, algorithm=algorithm)
    level = {2: 6, 4: 19, 8: 43}[bits]
    assert level < blocks.sqnr_db(WEIGHT) < level + 4
    noise = np.linalg.norm(WEIGHT - blocks.dequantize())
    assert blocks.sqnr_db(WEIGHT) == pytest.approx(20 * np.log10(np.linalg.norm(WEIGHT) / noise), abs=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rounding_to_nearest_is_within_half_a_step(bits: int, symmetric: bool) -> None:
    blocks = quantize_blocks(WEIGHT, bits=bits, block_size=16, symmetric=symmetric)
    steps = np.repeat(np.abs(blocks.scales), 16, axis=1)
    clipped = 0.5 if symmetric else 0
    assert np.all(np.abs(WEIGHT - blocks.dequantize()) <= steps * (0.501 + clipped))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_searched_scales_are_better(bits: int, symmetric: bool) -> None:
    levels = [
        quantize_blocks(WEIGHT, bits=bits, block_size=32, symmetric=symmetric, algorithm=algorithm).sqnr_db(
            WEIGHT
        )
        for algorithm in ("rtn", "k_quant")
    ]
    assert levels[1] > levels[0] + 0.05


@EVERY
def test_representable_weights_come_back_exactly(bits: int, symmetric: bool, algorithm: Algorithm) -> None:
    half = 1 << (bits - 1)
    levels = np.random.default_rng(0).integers(-half, half, (6, 64)).astype(np.float32)
    levels[:, ::16] = -half
    levels[:, 1::16] = half - 1
    weight = levels * np.float32(0.25)
    blocks = quantize_blocks(weight, bits=bits, block_size=16, symmetric=symmetric, algorithm=algorithm)
    assert np.array_equal(blocks.dequantize(), weight)
    assert blocks.sqnr_db(weight) == float("inf")


@EVERY
def test_blocks_of_zeros_stay_zero(bits: int, symmetric: bool, algorithm: Algorithm) -> None:
    weight = WEIGHT.copy()
    weight[:, :32] = 0
    blocks = quantize_blocks(weight, bits=bits, block_size=32, symmetric=symmetric, algorithm=algorithm)
    assert not blocks.dequantize()[:, :32].any()
    assert np.isfinite(blocks.scales).all()


def test_four_bits_are_packed_low_half_first() -> None:
    weight = np.array([[-8, 7, 0, 1] * 4], np.float32)
    blocks = quantize_blocks(weight, bits=4, block_size=16)
    assert blocks.packed.shape == (1, 1, 8)
    assert blocks.packed[0, 0, :2].tolist() == [0 | 15 << 4, 8 | 9 << 4]
    assert blocks.zero_points is None


def test_two_bits_are_packed_four_to_a_byte() -> None:
    weight = np.array([[-2, 1, 0, -1] * 4], np.float32)
    blocks = quantize_blocks(weight, bits=2, block_size=16)
    assert blocks.packed.tolist() == [[[0 | 3 << 2 | 2 << 4 | 1 << 6] * 4]]


def test_hqq_forgives_outliers() -> None:
    weight = WEIGHT.copy()
    weight[:, ::32] *= 3
    rest = np.arange(weight.shape[1]) % 32 != 0
    losses = []
    for algorithm in ("rtn", "hqq"):
        blocks = quantize_blocks(weight, bits=4, block_size=32, symmetric=False, algorithm=algorithm)
        losses.append(np.sum(np.abs(weight - blocks.dequantize())[:, rest] ** 0.7))
    assert losses[1] < 0.97 * losses[0]
    with pytest.raises(ValueError, match="no symmetric form"):
        quantize_blocks(weight, bits=4, block_size=32, algorithm="hqq")


def test_zero_points_of_an_odd_number_of_blocks_fill_whole_bytes() -> None:
    blocks = quantize_blocks(WEIGHT, bits=4, block_size=32, symmetric=False)
    assert blocks.scales.shape == (48, 3)
    assert blocks.zero_points is not None
    assert blocks.zero_points.shape == (48, 2)
    assert quantize_blocks(WEIGHT, bits=8, block_size=32, symmetric=False).zero_points.shape == (48, 3)  # type: ignore[union-attr]


def test_rows_that_blocks_do_not_fill_are_padded() -> None:
    blocks = quantize_blocks(WEIGHT, bits=8, block_size=64)
    assert blocks.packed.shape == (48, 2, 64)
    assert blocks.dequantize().shape == WEIGHT.shape
    assert blocks.sqnr_db(WEIGHT) > 40


@EVERY
def test_large_weights_are_quantized_in_parts(
    monkeypatch: pytest.MonkeyPatch, bits: int, symmetric: bool, algorithm: Algorithm
) -> None:
    def quantized() -> block_quantization.BlockTensor:
        return quantize_blocks(WEIGHT.T, bits=bits, block_size=16, symmetric=symmetric, algorithm=algorithm)

    whole = quantized()
    monkeypatch.setattr(block_quantization, "CHUNK", 500)
    parts = quantized()
    assert np.array_equal(whole.packed, parts.packed)
    assert np.array_equal(whole.scales, parts.scales)
    assert parts.sqnr_db(WEIGHT.T) == pytest.approx(whole.sqnr_db(WEIGHT.T), abs=1e-3)
