"""Weights, biases, tables and other constants of a statically quantized graph, stored in integers.

What a constant becomes depends on what it is to its reader (`static_values.ROLES`); one that several readers share is
stored once for each form. Weights and tables depend on nothing but themselves, so graphs that share them get the same
bytes; a bias has the grid of the products that it is added to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import Array, add_initializer, constant, is_constant, module_of, new_node
from pocket_opt.onnx_graphs.ranges import NARROWEST, Grid
from pocket_opt.onnx_graphs.static_precision import Scheme
from pocket_opt.onnx_graphs.static_values import ROLES, Role, as_float, is_float, masks

LARGEST_BIAS = 2.0**31 - 128
"""The largest float32 below 2^31."""


SHIFT_LEVELS = 2.0**22
"""Either side of zero: as exact as float32."""
SHARES, WIDE = tuple(1 - step / 40 for step in range(21)), 127
"""Shares of a channel's peak that its outermost level is tried at, where there are fewer levels than 8 bits have: there
the peak of 4 bits costs all other weights too much."""


class Constants:
    """Stores the constants of `graph`; `counts` says how many in which type."""

    def __init__(self, graph: ir.Graph, scheme: Scheme) -> None:
        self.counts: Counter[str] = Counter()
        self._graph, self._scheme = graph, scheme
        self._masked, _ = masks(graph)
        self._made: dict[tuple[str, str], ir.Value] = {}

    def quantize(self, node: ir.Node, bits: int) -> None:
        """Let `node`, with activations of so many bits, read its constants from integers."""
        for index, value in enumerate(node.inputs):
            if value is None or not is_constant(value) or not is_float(value):
                continue
            role = ROLES.get(node.op_type, {}).get(index, "operand")
            if role == "weight" and len(constant(value).shape) < 2:
                role = "operand"
            node.replace_input_with(index, self._stored(node, value, role, bits))

    def _stored(self, node: ir.Node, value: ir.Value, role: Role, bits: int) -> ir.Value:
        weights = self._scheme.precision(node).weights
        if role == "weight":
            return self._once(value, f"w{weights}", lambda name: self._weight(name, node, value, weights))
        if role == "bias":
            return self._once(
                value, f"{module_of(node)}.b32", lambda name: self._bias(name, node, value, bits)
            )
        if role in ("scale", "shift") and self._scheme.norms == 8:
            if role == "shift":
                return self._once(value, "b32", lambda name: self._shift(name, value))
            bits = 8
        if str(value.name) in self._masked:
            grid = self._scheme.grid(str(value.name), bits)
        else:
            array = constant(value)
            grid = Grid.over(float(array.min()), float(array.max()), bits)
        return self._once(value, f"u{bits}", lambda name: self._operand(name, value, grid))

    def _once(self, value: ir.Value, form: str, make: Callable[[str], ir.Value]) -> ir.Value:
        key = str(value.name), form
        if key not in self._made:
            self._made[key] = make(".".join(key))
        return self._made[key]

    def _operand(self, name: str, value: ir.Value, grid: Grid) -> ir.Value:
        """A constant with one scale."""
        self.counts[f"uint{grid.bits}"] += 1
        zero = np.array(grid.zero_point, grid.dtype)
        return self._read(name, value, (grid.levels(constant(value)), np.array(grid.scale), zero))

    def _weight(self, name: str, node: ir.Node, value: ir.Value, bits: int) -> ir.Value:
        """A weight with one scale for each output channel."""
        axis, kind = _channel_axis(node), ml_dtypes.int4 if bits == 4 else np.int8
        levels, scale = rounded(constant(value), axis, bits)
        self.counts[f"int{bits}"] += 1
        return self._read(name, value, (levels.astype(kind), scale.ravel(), np.zeros(scale.size, kind)), axis)

    def _bias(self, name: str, node: ir.Node, value: ir.Value, bits: int) -> ir.Value:
        """A bias in 32 bits, on the grid of the products that it is added to; the weight is stored before it."""
        source, weight = node.inputs[:2]
        reader = weight.producer() if weight is not None else None
        if source is None or reader is None:
            raise ValueError(f"the node {node.name} has a bias, and no constant weight")
        scale = constant(reader.inputs[1]) * self._scheme.grid(str(source.name), bits).scale
        levels = np.clip(np.rint(constant(value) / scale), -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
        self.counts["int32"] += 1
        return self._read(name, value, (levels, scale), 0)

    def _shift(self, name: str, value: ir.Value) -> ir.Value:
        """What a layer norm adds, in 32 bits; its levels need no relation to others."""
        array = constant(value)
        scale = np.array(max(float(np.abs(array).max()), NARROWEST) / SHIFT_LEVELS, np.float32)
        self.counts["int32"] += 1
        return self._read(name, value, (np.rint(array / scale).astype(np.int32), scale))

    def _read(
        self, name: str, value: ir.Value, parts: tuple[Array, ...], axis: int | None = None
    ) -> ir.Value:
        """Store levels, scale and zero point (`parts`) under `name`; the value that holds them as floats again."""
        ends = ("", ".scale", ".zero_point")
        inputs = [
            add_initializer(self._graph, name + end, array) for end, array in zip(ends, parts, strict=False)
        ]
        node = new_node(name, "DequantizeLinear", inputs, {} if axis is None else {"axis": axis})
        self._graph.insert_before(next(iter(self._graph)), node)
        return as_float(node, f"{name}.float", value.shape)


def rounded(array: Array, axis: int, bits: int) -> tuple[Array, Array]:
    """Levels (int8) of a weight in so many bits, and a scale for each channel of `axis`, with 1 on the others."""
    others = tuple(index for index in range(array.ndim) if index != axis)
    limit = 2 ** (bits - 1) - 1
    scale = fitted_scales(array, others, limit)
    return np.clip(np.rint(array / scale), -limit, limit).astype(np.int8), scale


def fitted_scales(array: Array, axes: tuple[int, ...], limit: int) -> Array:
    """A scale for each channel, whose outermost level is `limit`: of a few the one with the least squared error.

    A channel is what is left of `array` over `axes`; the result has 1 there.
    """
    peak = np.abs(array).max(axis=axes, keepdims=True)
    widest = np.where(peak == 0, np.float32(1), peak / np.float32(limit))
    best, least = widest, np.full_like(widest, np.inf)
    for share in SHARES if limit < WIDE else (1.0,):
        scale = widest * np.float32(share)
        error = np.square(np.clip(np.rint(array / scale), -limit, limit) * scale - array)
        error = error.sum(axis=axes, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _channel_axis(node: ir.Node) -> int:
    """The axis of output channels in the weight of a linear layer."""
    if node.op_type == "MatMul":
        return constant(node.inputs[1]).ndim - 1
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 0
