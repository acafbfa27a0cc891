"""Fixed positions in an OpenVINO model, computed when it is compiled; `onnx_graphs/sinusoids.py` tells what they are.

The plugin folds them into a constant, as it does with a widened table of 16 bits, so nothing is slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as ops

from pocket_opt.onnx_graphs.sinusoids import SLOWEST


def computed(shape: tuple[int, int]) -> Any:
    """The node whose output is the table [positions, width]; in 32 bits it is within 3e-4 of the stored one."""
    length, width = shape
    exponents = ops.multiply(_count_to(width // 2), ops.constant(np.float32(-SLOWEST / (width // 2 - 1))))
    column = ops.unsqueeze(_count_to(length), ops.constant(np.int64(1)))
    angles = ops.multiply(column, ops.exp(exponents))
    return ops.concat([ops.sin(angles), ops.cos(angles)], 1)


def _count_to(number: int) -> Any:
    zero, end, one = (ops.constant(np.float32(value)) for value in (0, number, 1))
    return ops.range(zero, end, one, "f32")
