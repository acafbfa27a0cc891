"""Weights stored in 4 bits that the runtime widens to 8 when it loads the graph: the size of 4, the speed of 8.

Integer products take 8-bit weights with one scale a column; 4 bits need a scale for every 32 inputs. Both meet by
storing, for each block, the ratio of its scale to that of its column: `level8 = round((level4 - zero) * ratio)`. All of
it is constant, so the runtime folds it into the 8-bit matrix and computes with that. Nothing of it is left at run time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pocket_opt.onnx_graphs.block_quantization import quantize_blocks, unpack
from pocket_opt.onnx_graphs.files import FLOAT, add_initializer, new_node

BITS, BLOCK = 4, 32
LIMIT = np.float32(63)
"""Largest level: at 7 bits the fast kernel for x86 without VNNI does not saturate, and 4 bits have no more to say."""
INT8, LOW = int(ir.DataType.INT8), np.uint8(15)

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def store_widened(graph: ir.Graph, before: ir.Node, name: str, weight: Floats) -> tuple[ir.Value, Floats]:
    """Store `weight` [K, N] in 4 bits; nodes that widen it are put before `before`.

    Returns the int8 levels [K, N], at most 63 in magnitude, and the scale of each column, [N].
    """
    inputs, outputs = weight.shape
    rows = np.pad(
        weight.T, ((0, 0), (0, -inputs % (2 * BLOCK)))
    )  # an even number of blocks shares bytes evenly
    blocks = quantize_blocks(rows, bits=BITS, block_size=BLOCK, symmetric=False, algorithm="k_quant")
    peak = np.abs(blocks.dequantize()).max(axis=1)
    columns: Floats = np.where(peak == 0, np.float32(1), peak / LIMIT)
    ratios = (blocks.scales / columns[:, None]).T[:, None]

    def shared(what: str, value: npt.NDArray[np.generic]) -> ir.Value:
        full = f"widening.{what}"
        known = graph.initializers.get(full)
        return add_initializer(graph, full, value) if known is None else known

    def ints(*values: int) -> ir.Value:
        return shared("_".join(map(str, values)), np.array(values))

    nodes: list[ir.Node] = []

    def add(op_type: str, *given: ir.Value, number: int = 1, suffix: str = "", **attributes: int) -> ir.Value:
        nodes.append(new_node(name, op_type, given, attributes, outputs=number, suffix=suffix))
        return nodes[-1].outputs[0]

    packed = add_initializer(graph, name, _packed(blocks.packed, blocks.zero_points, len(ratios)))
    low = add("BitwiseAnd", packed, shared("low", np.array(LOW)))
    high = add("BitShift", packed, shared("bits", np.array(BITS, np.uint8)))
    nodes[-1].attributes.add(ir.AttrString("direction", "RIGHT"))
    levels = add("Cast", add("Concat", low, high, axis=0), to=FLOAT)
    zeros = add("Split", levels, ints(1, BLOCK), number=2, axis=1)
    centred = add("Sub", nodes[-1].outputs[1], zeros)
    scaled = add("Mul", centred, add_initializer(graph, f"{name}.ratios", ratios))
    whole = add("Reshape", add("Round", scaled), ints(-1, outputs))
    if rows.shape[1] > inputs:
        whole = add("Slice", whole, ints(0), ints(inputs))
    found = add("Cast", whole, to=INT8, suffix="_levels")
    found.dtype, found.shape = ir.DataType.INT8, ir.Shape(weight.shape)
    graph.insert_before(before, nodes)
    return found, columns


def _packed(levels: Bytes, zeros: Bytes | None, count: int) -> Bytes:
    """Bytes [count / 2, 33, N]: zero point and 32 levels of a block, low bits for the first half of the blocks."""
    assert zeros is not None
    apart = unpack(levels, BITS).transpose(1, 2, 0)
    points = unpack(zeros, BITS)[:, :count].T[:, None]
    both = np.concatenate([points, apart], axis=1)
    half = count // 2
    packed: Bytes = both[:half] | both[half:] << np.uint8(BITS)
    return np.ascontiguousarray(packed)
