"""The next token of every row: the most probable one that the rules allow, and its log probability.

The rules are those of `runner/rules.py`, for all rows at once. What depends on the step alone comes as a row of the
masks; what depends on the times said so far is computed in a branch that is taken only where times are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules
from pocket_opt.models.whisper.graph_builder import GraphBuilder

_LONG, _FLOAT, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


@dataclass(frozen=True)
class Said:
    """What rows have said so far.

    Attributes:
        last: the token fed last `[batch]`; of the prompt at the first step.
        before: the one before it.
        latest: the latest time, or the token before all times.
        step: the number of the step, a scalar.
        first: what the first step counts as: 0 where it reads from the prompt, 1 where it makes the first token.
    """

    last: ir.Value
    before: ir.Value
    latest: ir.Value
    step: ir.Value
    first: ir.Value


def build_choice(
    graph: GraphBuilder, rules: SpeechRules, scores: ir.Value, said: Said, timestamps: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """The chosen token int64 `[batch]` and its log probability `[batch]`, by masked `scores` `[batch, vocab]`."""
    with graph.scope("choice"):
        plain, timed = graph.body("plain"), graph.body("timed")
        _choose(plain, scores, "plain")
        with timed.scope("times"):
            allowed = _allowed(timed, rules, scores, said)
        _choose(timed, allowed, "timed")
        token, gain = graph.ops("If", timestamps, outputs=2, then_branch=timed.graph, else_branch=plain.graph)
        return token, gain


def allowed_scores(
    graph: GraphBuilder, rules: SpeechRules, scores: ir.Value, said: Said, timestamps: ir.Value
) -> ir.Value:
    """`scores` `[batch, vocab]` with -inf for what the times before forbid, where times are predicted."""
    plain, timed = graph.body("plain"), graph.body("timed")
    shape = ("batch", "vocab")
    plain.output(plain.op("Identity", scores), "plain.allowed", shape)
    with timed.scope("times"):
        timed.output(_allowed(timed, rules, scores, said), "timed.allowed", shape)
    return graph.op("If", timestamps, then_branch=timed.graph, else_branch=plain.graph)


def _choose(graph: GraphBuilder, scores: ir.Value, prefix: str) -> None:
    token = graph.op("ArgMax", scores, axis=1, keepdims=0)
    # ReduceLogSumExp takes ten times as long as LogSoftmax and ReduceMax together.
    gain = graph.op("ReduceMax", graph.op("LogSoftmax", scores, axis=1), graph.ints(1), keepdims=0)
    graph.output(token, f"{prefix}.token", ("batch",), _LONG)
    graph.output(gain, f"{prefix}.gain", ("batch",))


def _allowed(graph: GraphBuilder, rules: SpeechRules, scores: ir.Value, said: Said) -> ir.Value:
    """`scores` with -inf for what the times before forbid."""
    begin, end = rules.timestamp_begin, rules.end
    one, infinity = graph.scalar(1), graph.op("Constant", value_float=-np.inf)
    after_time = graph.op("GreaterOrEqual", said.last, graph.scalar(begin))
    time_before = graph.op("GreaterOrEqual", said.before, graph.scalar(begin))
    second = graph.op("Equal", graph.op("Add", said.step, said.first), graph.scalar(2))
    after_pair = graph.op("And", after_time, graph.op("Or", time_before, second))
    half = graph.op("And", after_time, graph.op("Not", after_pair))
    # Never back; the same time again only as the second of a pair; none right after a pair.
    lowest = graph.op("Sub", graph.op("Add", said.latest, one), graph.op("Cast", half, to=_LONG.value))
    lowest = graph.op("Where", after_pair, graph.scalar(rules.vocab), lowest)
    ids = graph.op("Range", graph.scalar(begin), graph.scalar(rules.vocab), one)
    too_early = graph.op("Less", ids, _column(graph, lowest))
    times = graph.op("Where", too_early, infinity, _part(graph, scores, begin, rules.vocab))
    words = graph.op("Where", _column(graph, half), infinity, _part(graph, scores, 0, end))
    words = graph.op("Concat", words, _part(graph, scores, end, begin), axis=1)
    # All times together outweigh every single word.
    together = graph.op("ReduceLogSumExp", times, graph.ints(1), keepdims=1)
    outweigh = graph.op("Greater", together, graph.op("ReduceMax", words, graph.ints(1), keepdims=1))
    return graph.op("Concat", graph.op("Where", outweigh, infinity, words), times, axis=1)


def _part(graph: GraphBuilder, scores: ir.Value, begin: int, end: int) -> ir.Value:
    return graph.op("Slice", scores, graph.ints(begin), graph.ints(end), graph.ints(1))


def _column(graph: GraphBuilder, values: ir.Value) -> ir.Value:
    """`[batch]` to `[batch, 1]`."""
    return graph.op("Unsqueeze", values, graph.ints(1))
