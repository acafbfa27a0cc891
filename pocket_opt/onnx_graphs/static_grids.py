"""The grid of every activation of a set of graphs, from what was seen of them on real inputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from pocket_opt.onnx_graphs.files import constant, is_constant
from pocket_opt.onnx_graphs.ranges import MASK_ROOM, Grid, Method, Spread
from pocket_opt.onnx_graphs.static_values import Groups, is_float, masks

BOUNDED = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 65535 / 65536), "Tanh": (-1.0, 32767 / 32768)}
"""Operators whose outputs are known without looking; for the last two the HTP knows no other 16-bit grid."""

Range = tuple[float, float]


class Grids:
    """Grids by graph, value and bits.

    Args:
        graphs: with complete types and shapes, by component.
        spreads: what was seen, by component and value.
        method, percentile: how a range follows from it, see `Spread.range`.
    """

    def __init__(
        self,
        graphs: Mapping[str, ir.Graph],
        spreads: Mapping[str, Mapping[str, Spread]],
        method: Method,
        percentile: float,
    ) -> None:
        self._method, self._percentile = method, percentile
        self._groups = Groups()
        self._seen: dict[str, Spread] = {}
        self._known: dict[str, Range] = {}
        self._sums: dict[str, set[str]] = {}
        self._ranges: dict[tuple[str, int], Range] = {}
        for component, graph in graphs.items():
            self._groups.add(component, graph)
        for component, graph in graphs.items():
            self._learn(component, graph)
        for component, found in spreads.items():
            for name, spread in found.items():
                self._seen.setdefault(self._groups.find(component, name), Spread()).merge(spread)

    def grid(self, component: str, name: str, bits: int) -> Grid:
        """The grid of a value in so many bits."""
        group = self._groups.find(component, name)
        if group not in self._sums:
            return Grid.over(*self._range(group, bits), bits)
        ranges = [self._range(scores, bits) for scores in self._sums[group]]
        return Grid.over(min(low - high for low, high in ranges), 0.0, bits)

    def _learn(self, component: str, graph: ir.Graph) -> None:
        """What is known of values without looking at them."""
        _, sums = masks(graph)
        for scores, mask in sums.items():
            found = self._sums.setdefault(self._groups.find(component, mask), set())
            found.add(self._groups.find(component, scores))
        for node in graph:
            output, source = node.outputs[0], node.inputs[0] if node.inputs else None
            if node.op_type in BOUNDED:
                self._known[self._groups.find(component, str(output.name))] = BOUNDED[node.op_type]
            elif node.op_type == "Gather" and is_float(source) and is_constant(source):
                table = constant(source)
                known = float(table.min()), float(table.max())
                self._known[self._groups.find(component, str(output.name))] = known

    def _range(self, group: str, bits: int) -> Range:
        """The range of a group; that of scores behind a mask has room below for what is masked."""
        if group in self._known:
            return self._known[group]
        if (group, bits) not in self._ranges:
            seen = self._seen.get(group, Spread())
            low, high = seen.range(self._method, bits, self._percentile)
            self._ranges[group, bits] = (low - MASK_ROOM, high) if seen.masked else (low, high)
        return self._ranges[group, bits]
