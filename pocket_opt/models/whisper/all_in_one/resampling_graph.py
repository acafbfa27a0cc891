"""Resampling by standard operators, to the numbers of `runner/audio.py`: windowed sinc, polyphase.

`AudioDecoder` of onnxruntime-extensions can resample itself, but lets through what it should not: a tone of 9 kHz at
48 kHz comes out at 7 kHz with half its amplitude, and all is 0.75 samples early. Here the filters are computed in the
graph from the file's rate: outputs `wanted / gcd` apart share one, and frames of the input times the matrix of
filters is the output.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.graph_builder import GraphBuilder

LEAST_STEP = 25
"""Hz of which a rate must be a multiple: all that are in use are, and any other would take filters of gigabytes."""
RATES = (4_000, 192_000)
CROSSINGS, PASSED, BETA, BLOCK = 64, 0.95, 10.06, 128
"""As in `runner/audio.py`: zero crossings a side, share of the lower rate's half, Kaiser's beta, outputs at once."""
_TERMS = 24
"""Of the series of the Bessel function I0, whose argument is `BETA` at most; the rest is below 1e-9 of it."""
_LONG, _DOUBLE, _FLOAT = ir.DataType.INT64.value, ir.DataType.DOUBLE.value, ir.DataType.FLOAT.value
_NOWHERE = 1 << 40


def build_resampled(
    graph: GraphBuilder, samples: ir.Value, rate: ir.Value, wanted: int, longest: int
) -> ir.Value:
    """The first `longest` samples float32 `[at most longest]` at `wanted` Hz of `samples` `[n]` at `rate` (a scalar).

    A rate that is not supported stops the run at a node called `audio_file.unsupported_rate`.
    """
    kept, changed = graph.body("kept"), graph.body("changed")
    checked = _checked(graph, rate)
    end = kept.ints(longest)
    kept.output(kept.op("Slice", samples, kept.ints(0), end, kept.ints(0)), "resampled.kept", ("kept",))
    with changed.scope("audio_file.resampled"):
        result = _Resampling(changed, checked, wanted).of(samples, longest)
    changed.output(result, "resampled.changed", ("changed",))
    same = graph.op("Equal", checked, graph.scalar(wanted))
    return graph.op("If", same, then_branch=kept.graph, else_branch=changed.graph)


def _checked(graph: GraphBuilder, rate: ir.Value) -> ir.Value:
    with graph.scope("audio_file.unsupported_rate"):
        odd = graph.op("Greater", graph.op("Mod", rate, graph.scalar(LEAST_STEP)), graph.scalar(0))
        low, high = (graph.scalar(limit) for limit in RATES)
        out = graph.op("Or", graph.op("Less", rate, low), graph.op("Greater", rate, high))
        place = graph.op("Where", graph.op("Or", odd, out), graph.scalar(_NOWHERE), graph.scalar(0))
        return graph.op("Gather", graph.op("Unsqueeze", rate, graph.ints(0)), place)


class _Resampling:
    """Builds the filters for a `rate`; their rows are inputs and their columns outputs."""

    def __init__(self, graph: GraphBuilder, rate: ir.Value, wanted: int) -> None:
        self._graph, self._rate, self._wanted = graph, rate, wanted
        divisors = np.array([step for step in range(1, wanted + 1) if wanted % step == 0], np.int64)
        steps = graph.constant("audio_file.steps", divisors)
        fits = graph.op("Equal", graph.op("Mod", rate, steps), graph.scalar(0))
        step = graph.op("ReduceMax", graph.op("Where", fits, steps, graph.scalar(1)), keepdims=0)
        up = graph.op("Div", graph.scalar(wanted), step)
        blocks = self._ceil(graph.scalar(BLOCK), up)
        self._up = graph.op("Mul", up, blocks)
        self._down = graph.op("Mul", graph.op("Div", rate, step), blocks)
        ratio = graph.op("Div", self._double(graph.scalar(wanted)), self._double(rate))
        self._cutoff = graph.op("Mul", graph.op("Min", ratio, self._real(1.0)), self._real(PASSED))
        half = graph.op("Ceil", graph.op("Div", self._real(float(CROSSINGS)), self._cutoff))
        self._half = graph.op("Cast", half, to=_LONG)

    def of(self, samples: ir.Value, longest: int) -> ir.Value:
        """Frames of the input, `down` apart, times the filters."""
        graph, zero = self._graph, self._graph.scalar(0)
        total = graph.op("Size", samples)
        total = self._ceil(graph.op("Mul", total, graph.scalar(self._wanted)), self._rate)
        total = graph.op("Min", total, graph.scalar(longest))
        groups = self._ceil(total, self._up)
        width = graph.op(
            "Add", self._down, graph.op("Add", self._half, graph.op("Add", self._half, graph.scalar(1)))
        )
        needed = graph.op("Add", graph.op("Mul", groups, self._down), width)
        begun = graph.op("Slice", samples, graph.ints(0), self._vector(needed), graph.ints(0))
        rooms = graph.op("Concat", self._vector(self._half), self._vector(needed), axis=0)
        padded = graph.op("Pad", begun, rooms)
        firsts = graph.op("Mul", graph.op("Range", zero, groups, graph.scalar(1)), self._down)
        inputs = graph.op("Range", zero, width, graph.scalar(1))
        frames = graph.op(
            "Gather", padded, graph.op("Add", graph.op("Unsqueeze", firsts, graph.ints(1)), inputs)
        )
        made = graph.op("Reshape", graph.op("MatMul", frames, self._filters(inputs)), graph.ints(-1))
        return graph.op("Slice", made, graph.ints(0), self._vector(total), graph.ints(0))

    def _filters(self, inputs: ir.Value) -> ir.Value:
        """`[inputs, up]`: cutoff sinc(cutoff d) kaiser(d / half) by the distance d of an input from an output."""
        graph = self._graph
        outputs = graph.op("Range", graph.scalar(0), self._up, graph.scalar(1))
        centres = graph.op(
            "Mul", self._double(outputs), graph.op("Div", self._double(self._down), self._double(self._up))
        )
        late = self._double(graph.op("Sub", inputs, self._half))
        distance = graph.op("Sub", graph.op("Unsqueeze", late, graph.ints(1)), centres)
        share = graph.op("Div", distance, self._double(self._half))
        inside = graph.op("Sub", self._real(1.0), graph.op("Mul", share, share))
        window = self._bessel(graph.op("Max", inside, self._real(0.0)))
        angle = graph.op("Mul", distance, graph.op("Mul", self._cutoff, self._real(math.pi)))
        near = graph.op("Less", graph.op("Abs", angle), self._real(1e-9))
        angle = graph.op("Where", near, self._real(1e-9), angle)
        sinc = graph.op("Div", graph.op("Sin", angle), angle)
        kernel = graph.op(
            "Mul",
            graph.op("Mul", sinc, window),
            graph.op("Div", self._cutoff, self._real(float(np.i0(BETA)))),
        )
        outside = graph.op("LessOrEqual", inside, self._real(0.0))
        return graph.op("Cast", graph.op("Where", outside, self._real(0.0), kernel), to=_FLOAT)

    def _bessel(self, squares: ir.Value) -> ir.Value:
        """I0(BETA sqrt(`squares`)), by its power series."""
        graph = self._graph
        quarter = graph.op("Mul", squares, self._real(BETA * BETA / 4))
        total = self._real(1.0)
        for term in range(_TERMS, 0, -1):
            scaled = graph.op("Mul", quarter, self._real(1 / (term * term)))
            total = graph.op("Add", graph.op("Mul", scaled, total), self._real(1.0))
        return total

    def _ceil(self, number: ir.Value, divisor: ir.Value) -> ir.Value:
        """`number` / `divisor`, rounded up."""
        graph = self._graph
        more = graph.op("Add", number, graph.op("Sub", divisor, graph.scalar(1)))
        return graph.op("Div", more, divisor)

    def _vector(self, number: ir.Value) -> ir.Value:
        return self._graph.op("Unsqueeze", number, self._graph.ints(0))

    def _double(self, number: ir.Value) -> ir.Value:
        return self._graph.op("Cast", number, to=_DOUBLE)

    def _real(self, number: float) -> ir.Value:
        return self._graph.constant(f"const/double_{number!r}", np.array(number, np.float64))
