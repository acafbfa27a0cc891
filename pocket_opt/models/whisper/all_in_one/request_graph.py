"""What a caller asks for, as inputs of the graph, and what follows from it: prompts, limits, forbidden tokens.

All but the audio may be left out. Text inputs have one entry for the whole batch or one for each row; an unknown code
stops the run at a node whose name says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules
from pocket_opt.models.whisper.graph_builder import GraphBuilder, string_tensor

DETECT = ""
"""The language that stands for: find it out."""

TRANSCRIBE = "transcribe"
MINUS_INFINITY = ir.tensor(np.array([-np.inf], np.float32))
_LONG, _BOOL = ir.DataType.INT64, ir.DataType.BOOL
_NOWHERE = 1 << 30


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        language: id of the language asked for `[batch]`, -1 to detect it; None for a model that is not told.
        task: id `[batch]`; None likewise.
        timestamps: a bool scalar.
        most, least: how many tokens to generate, scalars; `most` is 1 or more and within the model's positions.
    """

    language: ir.Value | None
    task: ir.Value | None
    timestamps: ir.Value
    most: ir.Value
    least: ir.Value


def build_request(graph: GraphBuilder, rules: SpeechRules, batch: ir.Value) -> Request:
    """Declare the inputs: language and task (of a multilingual model), timestamps, most and fewest new tokens."""
    language = task = None
    if rules.languages:
        language = _named(graph, "language", {DETECT: -1, **rules.languages}, DETECT, batch)
        task = _named(graph, "task", rules.tasks, TRANSCRIBE, batch)
    with graph.scope("request"):
        timestamps = _option(graph, "timestamps", np.zeros(1, np.bool_), _BOOL)
        most = _option(graph, "max_new_tokens", np.array([rules.new_tokens], np.int64), _LONG)
        least = _option(graph, "min_new_tokens", np.zeros(1, np.int64), _LONG)
        prompt = graph.op("Sub", graph.scalar(4 if rules.languages else 2), _number(graph, timestamps))
        room = graph.op("Sub", graph.scalar(rules.longest), prompt)
        most = graph.op("Min", graph.op("Max", most, graph.scalar(1)), room)
        return Request(language, task, timestamps, most, least)


def _option(graph: GraphBuilder, name: str, default: npt.NDArray[Any], dtype: ir.DataType) -> ir.Value:
    """The input `name` `[1]` as a scalar."""
    return graph.op("Squeeze", graph.input(name, dtype, (1,), default=ir.tensor(default)), graph.ints(0))


def _named(graph: GraphBuilder, name: str, ids: Mapping[str, int], default: str, batch: ir.Value) -> ir.Value:
    """The id `[batch]` that the text input `name` stands for."""
    stated = graph.input(name, ir.DataType.STRING, (f"{name}s",), default=string_tensor([default.encode()]))
    with graph.scope(f"request.unknown_{name}"):
        names = graph.strings([code.encode() for code in ids])
        equal = graph.op(
            "Cast", graph.op("Equal", graph.op("Unsqueeze", stated, graph.ints(1)), names), to=_LONG.value
        )
        known = graph.op("Cast", graph.op("ReduceMax", equal, graph.ints(1), keepdims=0), to=_BOOL.value)
        place = graph.op(
            "Where", known, graph.op("ArgMax", equal, axis=1, keepdims=0), graph.scalar(_NOWHERE)
        )
        found = graph.op(
            "Gather", graph.constant(f"request.{name}_ids", np.array([*ids.values()], np.int64)), place
        )
        return graph.op("Expand", found, batch)


@dataclass(frozen=True)
class Masks:
    """What is added to the logits: 0 or -inf.

    Attributes:
        rows: `[4, vocab]`, for the end of the prompt, the first token, later ones, and later ones but the end token.
        first: the row of the first step, a scalar.
        of_step: the row of every step, a vector as long as there may be steps.
        steps: how many there may be, a scalar.
    """

    rows: ir.Value
    first: ir.Value
    of_step: ir.Value
    steps: ir.Value


def build_masks(graph: GraphBuilder, rules: SpeechRules, request: Request) -> Masks:
    """The static part of the decoding rules.

    The decoder hears the start token alone at first, so that the probability of silence and the language can be read.
    What it answers then is overruled: by a language, or by <|notimestamps|> if the model is English-only. An
    English-only model that predicts times has the start token as its whole prompt and begins at the second row.
    """
    with graph.scope("masks"):
        timestamps, one = request.timestamps, graph.scalar(1)
        nothing = graph.op("ConstantOfShape", graph.ints(rules.vocab), value=MINUS_INFINITY)
        everything = graph.op(
            "ConstantOfShape", graph.ints(rules.vocab), value=ir.tensor(np.zeros(1, np.float32))
        )
        heard = [*rules.languages.values()] or [rules.no_timestamps]
        prompt = _set(graph, nothing, "prompt", heard, 0.0)
        later = _set(graph, everything, "never", rules.never, -np.inf)
        stamped = _set(graph, later, "no_timestamps", [rules.no_timestamps], -np.inf)
        later = graph.op("Where", timestamps, stamped, later)
        endless = _set(graph, later, "end", [rules.end], -np.inf)
        longer = graph.op("Greater", request.least, graph.scalar(0))
        first = _set(graph, graph.op("Where", longer, endless, later), "not_first", rules.not_first, -np.inf)
        first = graph.op("Where", _untimely(graph, rules, timestamps), nothing, first)
        rows = [graph.op("Unsqueeze", row, graph.ints(0)) for row in (prompt, first, later, endless)]
        begin = graph.scalar(0) if rules.languages else _number(graph, timestamps)
        steps = graph.op("Sub", graph.op("Add", request.most, one), begin)
        places = graph.op("Add", graph.op("Range", graph.scalar(0), steps, one), begin)
        early = graph.op(
            "And", graph.op("Greater", places, one), graph.op("LessOrEqual", places, request.least)
        )
        of_step = graph.op("Where", early, graph.scalar(3), graph.op("Min", places, graph.scalar(2)))
        return Masks(graph.op("Concat", *rows, axis=0), begin, of_step, steps)


def _untimely(graph: GraphBuilder, rules: SpeechRules, timestamps: ir.Value) -> ir.Value:
    """What cannot be first where times are predicted: everything but a time, and a late one."""
    ids = graph.op("Range", graph.scalar(0), graph.scalar(rules.vocab), graph.scalar(1))
    word = graph.op("Less", ids, graph.scalar(rules.timestamp_begin))
    latest = rules.vocab if rules.latest_first is None else rules.timestamp_begin + rules.latest_first
    late = graph.op("Greater", ids, graph.scalar(latest))
    return graph.op("And", timestamps, graph.op("Or", word, late))


def _set(graph: GraphBuilder, row: ir.Value, name: str, tokens: Sequence[int], value: float) -> ir.Value:
    """`row` with `value` at `tokens`."""
    if not tokens:
        return row
    places = graph.constant(f"masks.{name}", np.array(sorted(set(tokens)), np.int64))
    values = graph.op(
        "ConstantOfShape", graph.op("Shape", places), value=ir.tensor(np.array([value], np.float32))
    )
    return graph.op("ScatterElements", row, places, values)


def _number(graph: GraphBuilder, flag: ir.Value) -> ir.Value:
    return graph.op("Cast", flag, to=_LONG.value)
