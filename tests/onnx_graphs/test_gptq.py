"""GPTQ: the output of a layer stays nearer than by rounding each weight on its own."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.onnx_graphs.block_quantization import Floats, quantize_blocks
from pocket_opt.onnx_graphs.gptq import quantize_gptq

RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.standard_normal((40, 80)).astype(np.float32)
INPUT = (RANDOM.standard_normal((500, 80)) @ RANDOM.standard_normal((80, 80))).astype(np.float32)


def lost(restored: Floats, rows: Floats = INPUT) -> float:
    return float(np.linalg.norm(rows @ (WEIGHT - restored).T) / np.linalg.norm(rows @ WEIGHT.T))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_output_loses_less(bits: int, symmetric: bool) -> None:
    how = {"bits": bits, "block_size": 16, "symmetric": symmetric}
    plain = quantize_blocks(WEIGHT, **how, algorithm="k_quant")  # type: ignore[arg-type]
    found = quantize_gptq(WEIGHT, INPUT.T @ INPUT, **how)  # type: ignore[arg-type]
    assert found.packed.shape == plain.packed.shape
    assert lost(found.dequantize()) < 0.9 * lost(plain.dequantize())
    assert found.sqnr_db(WEIGHT) < plain.sqnr_db(WEIGHT)


def test_independent_inputs_leave_nothing_to_make_up_for() -> None:
    plain = quantize_blocks(WEIGHT, bits=4, block_size=16, algorithm="k_quant")
    found = quantize_gptq(WEIGHT, np.eye(80, dtype=np.float32), bits=4, block_size=16, symmetric=True)
    assert np.array_equal(found.dequantize(), plain.dequantize())


def test_inputs_that_are_always_zero_and_rows_that_blocks_do_not_fill() -> None:
    rows = INPUT.copy()
    rows[:, :7] = 0
    found = quantize_gptq(WEIGHT, rows.T @ rows, bits=4, block_size=32, symmetric=False)
    assert found.dequantize().shape == WEIGHT.shape
    assert lost(found.dequantize(), rows) < 0.1
    silent = quantize_gptq(WEIGHT, np.zeros((80, 80), np.float32), bits=4, block_size=32, symmetric=True)
    assert np.isfinite(silent.dequantize()).all()
