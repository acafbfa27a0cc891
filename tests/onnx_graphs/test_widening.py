"""4-bit storage of 8-bit weights: what the runtime computes with is what was chosen, in any shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
from pocket_opt.onnx_graphs.files import new_node, save, sqnr_db
from pocket_opt.onnx_graphs.widening import store_widened

SHAPES = [(64, 5), (96, 7), (80, 3), (33, 4), (1, 2)]
"""Whole pairs of blocks, an odd block, half a block, one input too many, one input."""


def widened(weight: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """The levels that ONNX Runtime finds when it loads the weight, their scales, and the bytes of the file."""
    last = new_node("read", "Identity", [None])
    graph = ir.Graph((), last.outputs, nodes=[last], opset_imports={"": 20}, name="weights")
    levels, scales = store_widened(graph, last, "w.q4", weight)
    last.replace_input_with(0, levels)
    last.outputs[0].name, last.outputs[0].dtype, last.outputs[0].shape = "levels", levels.dtype, levels.shape
    save(ir.Model(graph, ir_version=10), folder, "weights.onnx")
    session = onnxruntime.InferenceSession(folder / "weights.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {})[0], scales, (folder / "weights.onnx").stat().st_size


@pytest.mark.parametrize("shape", SHAPES)
def test_the_levels_are_those_of_four_bits_on_the_scale_of_their_column(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight[:, 0] = 0
    levels, scales, _ = widened(weight, tmp_path)
    assert levels.dtype == np.int8
    assert levels.shape == shape
    assert np.abs(levels).max(axis=0).tolist() == [0, *[63] * (shape[1] - 1)]
    four = quantize_blocks(weight.T, bits=4, block_size=32, symmetric=False, algorithm="k_quant")
    assert np.abs(levels * scales - four.dequantize().T).max() <= scales.max() * 0.5001


def test_a_weight_takes_five_bits_and_loses_what_four_lose(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    levels, scales, size = widened(weight, tmp_path)
    ratios_in_fp32 = 4 * (512 // 32) * 256
    assert size < 512 * 256 * 4.25 / 8 + ratios_in_fp32 + 2_500
    four = quantize_blocks(weight.T, bits=4, block_size=32, symmetric=False, algorithm="k_quant")
    assert sqnr_db(weight, levels * scales) > sqnr_db(weight, four.dequantize().T) - 0.5
