"""Dynamic INT8 for clients that set no session entries: weights as unsigned bytes, the same numbers.

On x86 without VNNI the kernel for signed weights saturates unless `session.x64quantprecision` is set (see the pass
`dynamic_int8`), which no client does. Unsigned ones do not saturate; on VNNI their kernel is the slower one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import add_initializer, constant, is_constant, remove_initializer

ZERO = 128


def make_weights_unsigned(graph: ir.Graph) -> int:
    """Shift the signed weights of MatMulInteger and their zero points by 128; gives how many weights."""
    made: dict[ir.Value, ir.Value] = {}
    for node in graph:
        if node.op_type != "MatMulInteger" or not is_constant(node.inputs[1]):
            continue
        for index in (1, 3):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value.dtype != ir.DataType.INT8:
                continue
            if value not in made:
                shifted = (constant(value).astype(np.int16) + ZERO).astype(np.uint8)
                made[value] = add_initializer(graph, f"{value.name}.unsigned", shifted)
            node.replace_input_with(index, made[value])
    for value in made:
        remove_initializer(graph, value)
    return sum(value.shape is not None and len(value.shape) == 2 for value in made)
