"""A graph that tells, beside its outputs, what its values look like: extremes of each, and an even sample.

Both are computed inside the graph, so that of an attention's scores, 100 MB in a large encoder, a few numbers come out.
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
EXTREMES, SAMPLES = "observed/extremes", "observed/samples"


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
        self._ports = self._session.get_outputs()[:-2]

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
        *found, extremes, samples = self._session.run([*names, EXTREMES, SAMPLES], inputs)
        parts = np.split(samples, np.cumsum(self._sizes)[:-1])
        for spread, (low, high, lowest), sample in zip(
            self.spreads.values(), extremes.reshape(-1, 3), parts, strict=True
        ):
            spread.see(float(low), float(high), float(lowest), sample)
        return list(found)


def _tapped(
    artifact: Artifact, component: str, names: Sequence[str], masked: set[str], folder: Path
) -> tuple[Artifact, list[int]]:
    """`artifact` with one graph, written to `folder`, with two more outputs; and the lengths of the samples."""
    model = load(artifact.path(component))
    graph = complete(model.graph)
    values = {str(value.name): value for node in graph for value in node.outputs}
    values |= {str(value.name): value for value in graph.inputs}
    taps = _Taps(graph)
    pairs = [taps.add(values[name], masked=name in masked) for name in names]
    for output, parts in ((EXTREMES, [pair[0] for pair in pairs]), (SAMPLES, [pair[1] for pair in pairs])):
        joined = taps.node("Concat", parts, axis=0)
        joined.name, joined.dtype, joined.shape = output, ir.DataType.FLOAT, ir.Shape(["observed"])
        graph.outputs.append(joined)
    part = save(model, folder, f"{component}.onnx")
    return Artifact(folder, {component: part}, artifact.metadata), taps.sizes


class _Taps:
    """Writes the observing nodes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.sizes: list[int] = []
        self._graph = graph
        self._flat = self._ints("flat", -1)
        self._zero, self._end = self._ints("zero", 0), self._ints("end", 2**62)
        self._limit = self._scalar("masked_below", MASKED_BELOW)
        self._none = self._scalar("none", float(np.finfo(np.float32).max))

    def add(self, value: ir.Value, *, masked: bool) -> tuple[ir.Value, ir.Value]:
        """The extremes [3] of `value` (low without what is masked, high, low), and a sample."""
        flat = self.node("Reshape", [value, self._flat])
        high, low = self.node("ReduceMax", [flat], keepdims=1), self.node("ReduceMin", [flat], keepdims=1)
        shown = low
        if masked:
            hidden = self.node("Less", [flat, self._limit])
            shown = self.node("ReduceMin", [self.node("Where", [hidden, self._none, flat])], keepdims=1)
        return self.node("Concat", [shown, high, low], axis=0), self._sample(value, flat)

    def _sample(self, value: ir.Value, flat: ir.Value) -> ir.Value:
        assert value.shape is not None
        count = math.prod(value.shape.numpy())
        # An odd stride: an even one would see only some columns of a matrix whose width is a power of two.
        stride = max(-(-count // SAMPLE), 1) | 1
        self.sizes.append(-(-count // stride))
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
