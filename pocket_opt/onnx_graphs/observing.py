"""A graph that tells, beside its outputs, what its values look like: extremes of each, and an even sample.

Both are computed inside the graph, so that of an attention's scores, 100 MB in a large encoder, a few numbers come out.
They come out of one node. Of what a node reads ONNX Runtime computes first what stands last in the file, so the nodes
that look at the first values stand there: each value is looked at, and freed, before the next is computed. The other
way round all values of the encoder of whisper-small, 4.3 GB, are held at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.files import Array, add_initializer, load, save
from pocket_opt.onnx_graphs.ranges import MASKED_BELOW, Spread
from pocket_opt.onnx_graphs.static_values import complete
from pocket_opt.scratch import scratch

SAMPLE = 8192
"""Most elements of a value that enter its histogram at each call."""
OUTPUT = "observed"
EXTREMES = 3
"""Of each value: the lowest without what is masked, the highest, the lowest."""


class Observed:
    """A session on one graph, in the form that runners know, which collects `spreads` by the names of values.

    Args:
        names: the values that are looked at, all float.
        masked: those of them that a mask may have been added to.
        every: of that many calls one is looked at; the first always.

    Attributes:
        spreads: what was seen, by the names of values.
        calls, looked: how often the graph was called, and how often that was looked at.
    """

    def __init__(
        self, artifact: Artifact, component: str, names: Sequence[str], masked: set[str], every: int = 1
    ) -> None:
        self.spreads = {name: Spread() for name in names}
        self.calls = self.looked = 0
        self._every = every
        with scratch("observed") as folder:
            tapped, self._sizes = _tapped(artifact, component, names, masked, folder)
            self._session = open_session(tapped, component)
        self._ports = self._session.get_outputs()[:-1]

    def get_inputs(self) -> list[Any]:
        """The ports of the graph."""
        return list(self._session.get_inputs())

    def get_outputs(self) -> list[Any]:
        """The ports of the graph, without what is observed."""
        return list(self._ports)

    def run(self, names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs `names`."""
        self.calls += 1
        if (self.calls - 1) % self._every:
            options = onnxruntime.RunOptions()
            options.only_execute_path_to_fetches = True
            return list(self._session.run(names, inputs, options))
        self.looked += 1
        *found, observed = self._session.run([*names, OUTPUT], inputs)
        parts = np.split(observed, np.cumsum(self._sizes)[:-1])
        for spread, part in zip(self.spreads.values(), parts, strict=True):
            low, high, lowest = map(float, part[:EXTREMES])
            spread.see(low, high, lowest, part[EXTREMES:])
        return list(found)


def _tapped(
    artifact: Artifact, component: str, names: Sequence[str], masked: set[str], folder: Path
) -> tuple[Artifact, list[int]]:
    """`artifact` with one graph, written to `folder`, with one more output; and how much of it each value is."""
    model = load(artifact.path(component))
    graph = complete(model.graph)
    values = {str(value.name): value for node in graph for value in node.outputs}
    values |= {str(value.name): value for value in graph.inputs}
    taps = _Taps(graph)
    told = [taps.of(values[name], masked=name in masked) for name in reversed(names)]
    joined = taps.node("Concat", [part for parts in reversed(told) for part in parts], axis=0)
    joined.name, joined.dtype, joined.shape = OUTPUT, ir.DataType.FLOAT, ir.Shape([sum(taps.sizes)])
    graph.outputs.append(joined)
    part = save(model, folder, f"{component}.onnx")
    return Artifact(folder, {component: part}, artifact.metadata), taps.sizes[::-1]


class _Taps:
    """Writes the observing nodes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.sizes: list[int] = []
        self._graph = graph
        self._flat = self._ints("flat", -1)
        self._zero, self._end = self._ints("zero", 0), self._ints("end", 2**62)
        self._limit = self._scalar("masked_below", MASKED_BELOW)
        self._none = self._scalar("none", float(np.finfo(np.float32).max))

    def of(self, value: ir.Value, *, masked: bool) -> list[ir.Value]:
        """The extremes of `value` and a sample."""
        flat = self.node("Reshape", [value, self._flat])
        high, low = (self.node(operator, [flat], keepdims=1) for operator in ("ReduceMax", "ReduceMin"))
        shown = low
        if masked:
            hidden = self.node("Less", [flat, self._limit])
            shown = self.node("ReduceMin", [self.node("Where", [hidden, self._none, flat])], keepdims=1)
        return [shown, high, low, self._sample(value, flat)]

    def _sample(self, value: ir.Value, flat: ir.Value) -> ir.Value:
        assert value.shape is not None
        count = math.prod(value.shape.numpy())
        # An odd stride: an even one would see only some columns of a matrix whose width is a power of two.
        stride = max(-(-count // SAMPLE), 1) | 1
        self.sizes.append(EXTREMES - (-count // stride))
        steps = self._ints(f"stride_{stride}", stride)
        return self.node("Slice", [flat, self._zero, self._end, self._zero, steps])

    def node(self, op_type: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Value:
        """Append a node with one output."""
        node = ir.node(op_type, inputs, attributes, name=f"observed/{op_type}")
        self._graph.append(node)
        return node.outputs[0]

    def _ints(self, name: str, number: int) -> ir.Value:
        return self._constant(name, np.array([number], np.int64))

    def _scalar(self, name: str, number: float) -> ir.Value:
        return self._constant(name, np.array(number, np.float32))

    def _constant(self, name: str, array: Array) -> ir.Value:
        name = f"observed/{name}"
        known = self._graph.initializers.get(name)
        return known if known is not None else add_initializer(self._graph, name, array)
