"""Beam search inside the loop, as `runner/beam.py` does it; the number of beams and the length penalty are inputs.

All beams of all clips are rows of the decoder from the first step on, where only the first beam of a clip counts. A
step looks at the best `2 * beams` continuations of each clip, keeps those that end by their worth, and goes on with
the best others; caches follow their beams. A clip that is over waits for the others: nothing it does counts.
One beam says what greedy decoding says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.choice_graph import allowed_scores
from pocket_opt.models.whisper.all_in_one.request_graph import Masks, Request
from pocket_opt.models.whisper.all_in_one.search_steps import Moment, Steps, filled
from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shaped

MOST_BEAMS = 5
_LONG, _FLOAT, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
_NOWHERE = 1 << 30
_CARRIED = {
    "score": (("rows",), _FLOAT),
    "logprob": (("rows",), _FLOAT),
    "history": (("rows", "said"), _LONG),
    "worth": (("clips", "beams"), _FLOAT),
    "ended": (("rows", "said"), _LONG),
    "ended_logprob": (("clips", "beams"), _FLOAT),
    "ended_steps": (("clips", "beams"), _LONG),
    "open": (("clips",), _BOOL),
}
"""Of running sequences: the sum of log probabilities among all tokens, the same among allowed ones, and the tokens. Of
ended ones, the best first: worth, tokens, sum of log probabilities, their number. Whether a clip is not over."""


class BeamSearch:
    """See `Search`. Declares the inputs `beams` (1 to 5) and `length_penalty`, and their defaults.

    Another number of beams stops the run at a node called `request.unsupported_beams`.
    """

    row_dim = "rows"
    per_step: tuple[str, ...] = ("token",)

    def __init__(
        self, graph: GraphBuilder, rules: SpeechRules, batch: ir.Value, beams: int, length_penalty: float
    ) -> None:
        self._rules, self._batch = rules, batch
        stated = graph.input("beams", _LONG, (1,), default=ir.tensor(np.array([beams])))
        penalty = ir.tensor(np.array([length_penalty], np.float32))
        self._penalty = graph.op(
            "Squeeze", graph.input("length_penalty", _FLOAT, (1,), default=penalty), graph.ints(0)
        )
        with graph.scope("request.unsupported_beams"):
            place = graph.op("Where", graph.op("Less", stated, graph.ints(1)), graph.ints(_NOWHERE), stated)
            self._wide = graph.op("Gather", graph.ints(*range(MOST_BEAMS + 1)), place)
        with graph.scope("beams"):
            self._beams = graph.op("Squeeze", self._wide, graph.ints(0))
            self._twice = graph.op("Mul", self._wide, graph.ints(2))
            self.rows = graph.op("Mul", batch, self._wide)
            self._each = graph.op(
                "Range", graph.scalar(0), graph.op("Squeeze", self.rows, graph.ints(0)), graph.scalar(1)
            )
            self._clips = graph.op(
                "Unsqueeze",
                graph.op(
                    "Range", graph.scalar(0), graph.op("Squeeze", batch, graph.ints(0)), graph.scalar(1)
                ),
                graph.ints(1),
            )
            self._owners = graph.op("Div", self._each, self._beams)
            self._table = graph.op("Concat", batch, self._wide, axis=0)

    def attach(self, request: Request, masks: Masks) -> BeamSearch:
        """Decode what is asked for; rows of `request` are those of the search."""
        self._request, self._masks = request, masks
        return self

    def of_rows(self, graph: GraphBuilder, values: ir.Value) -> ir.Value:
        """Each clip once for each of its beams."""
        return graph.op("Gather", values, self._owners, axis=0)

    def begin(self, graph: GraphBuilder) -> dict[str, ir.Value]:
        """Only the first beam of a clip counts."""
        first = graph.op("Equal", graph.op("Mod", self._each, self._beams), graph.scalar(0))
        zero, never = (
            graph.constant(f"beams.{name}", np.array(value, np.float32))
            for name, value in (("zero", 0), ("never", -np.inf))
        )
        empty = graph.op("Concat", self.rows, graph.ints(0), axis=0)
        begun = {
            "score": graph.op("Where", first, zero, never),
            "logprob": filled(graph, self.rows, 0.0),
            "history": filled(graph, empty, 0),
            "worth": filled(graph, self._table, -np.inf),
            "ended": filled(graph, empty, 0),
            "ended_logprob": filled(graph, self._table, 0.0),
            "ended_steps": filled(graph, self._table, 0),
            "open": filled(graph, self._batch, True),
        }
        return {name: shaped(value, *_CARRIED[name]) for name, value in begun.items()}

    def advance(
        self, body: GraphBuilder, moment: Moment, state: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """Read the prompt, or search."""
        with body.scope("beams"):
            scores = allowed_scores(body, self._rules, moment.scores, moment.said, self._request.timestamps)
            reading, searching = body.body("reading"), body.body("searching")
            results = self._read(reading, scores, state), self._search(searching, moment, scores, state)
            names = tuple(results[0])
            for branch, found in zip((reading, searching), results, strict=True):
                for name in names:
                    shape, dtype = _CARRIED.get(name, (("rows",), _LONG))
                    grown = tuple(size if size != "said" else f"said_{branch.graph.name}" for size in shape)
                    branch.output(
                        branch.op("Identity", found[name]), f"{branch.graph.name}.{name}", grown, dtype
                    )
            beginning = body.op("Equal", body.op("Add", moment.said.step, moment.said.first), body.scalar(0))
            chosen = body.ops(
                "If", beginning, outputs=len(names), then_branch=reading.graph, else_branch=searching.graph
            )
            return dict(zip(names, chosen, strict=True))

    def going_on(self, results: Mapping[str, ir.Value]) -> ir.Value:
        """Clips that are not over."""
        return results["open"]

    def steps(self, graph: GraphBuilder, found: Mapping[str, ir.Value], first: ir.Value) -> Steps:  # noqa: ARG002
        """The sequence of each clip that is worth most."""
        firsts = graph.op("Mul", graph.op("Squeeze", self._clips, graph.ints(1)), self._beams)
        language = None
        if self._request.language is not None:
            heard = graph.op("Gather", found["token"], graph.scalar(0), axis=0)
            language = graph.op("Gather", heard, firsts)
        gained, count = (
            graph.op("Gather", found[name], graph.scalar(0), axis=1)
            for name in ("ended_logprob", "ended_steps")
        )
        return Steps(
            graph.op("Gather", found["ended"], firsts, axis=0),
            graph.op("Div", gained, graph.op("Cast", count, to=_FLOAT.value)),
            language,
            graph.op("Gather", found["silence"], firsts),
        )

    def _read(
        self, body: GraphBuilder, scores: ir.Value, state: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """The step that reads the start token: the language, or what else the mask leaves."""
        token = body.op("ArgMax", scores, axis=1, keepdims=0)
        if self._request.language is not None:
            told = body.op("GreaterOrEqual", self._request.language, body.scalar(0))
            token = body.op("Where", told, self._request.language, token)
        return {"token": token, "order": self._each, **{name: state[name] for name in _CARRIED}}

    def _search(
        self, body: GraphBuilder, moment: Moment, scores: ir.Value, state: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """The best continuations of each clip: those that end, and those that run on."""
        step, history = moment.said.step, state["history"]
        last = body.op("Equal", body.op("Add", step, body.scalar(1)), self._masks.steps)
        length = body.op("Add", body.op("Shape", history, start=1, end=2), body.ints(1))
        price = body.op("Pow", body.op("Cast", length, to=_FLOAT.value), self._penalty)
        token, score, logprob, row = self._candidates(body, moment.raw, scores, state)
        wide = body.op("Concat", self._batch, self._twice, length, axis=0)
        sequences = body.op("Gather", history, body.op("Reshape", row, body.ints(-1)), axis=0)
        sequences = body.op("Concat", sequences, body.op("Reshape", token, body.ints(-1, 1)), axis=1)
        sequences = body.op("Reshape", sequences, wide)
        ends = body.op("Equal", token, body.scalar(self._rules.end))
        places = body.op(
            "Range", body.scalar(0), body.op("Squeeze", self._twice, body.ints(0)), body.scalar(1)
        )
        finishing = body.op("And", body.op("Or", ends, last), body.op("Less", places, self._beams))
        finishing = body.op("And", finishing, body.op("Unsqueeze", state["open"], body.ints(1)))
        never = body.constant("beams.never", np.array(-np.inf, np.float32))
        worth = body.op("Where", finishing, body.op("Div", score, price), never)
        ended = self._ended(body, state, worth, sequences, logprob, length)
        # The first that do not end, in their order.
        late = body.op("Mul", body.op("Cast", ends, to=_LONG.value), self._twice)
        _, going = body.ops("TopK", body.op("Add", places, late), self._wide, outputs=2, axis=1, largest=0)
        token, order, score, logprob = (
            body.op("GatherElements", values, going, axis=1) for values in (token, row, score, logprob)
        )
        best = body.op("Div", body.op("Slice", score, body.ints(0), body.ints(1), body.ints(1)), price)
        least = body.op(
            "Slice", ended["worth"], body.ints(-1), body.ints(np.iinfo(np.int64).max), body.ints(1)
        )
        over = body.op("LessOrEqual", best, least)
        alone = body.op(
            "And", body.op("Equal", self._beams, body.scalar(1)), body.op("Greater", least, never)
        )
        over = body.op("Squeeze", body.op("Or", body.op("Or", over, alone), last), body.ints(1))
        token, order, score, logprob = (
            body.op("Reshape", values, body.ints(-1)) for values in (token, order, score, logprob)
        )
        kept = body.op("Gather", history, order, axis=0)
        return {
            "token": token,
            "order": order,
            "score": score,
            "logprob": logprob,
            "history": body.op("Concat", kept, body.op("Unsqueeze", token, body.ints(1)), axis=1),
            **ended,
            "open": body.op("And", state["open"], body.op("Not", over)),
        }

    def _candidates(
        self, body: GraphBuilder, raw: ir.Value, scores: ir.Value, state: Mapping[str, ir.Value]
    ) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """Of each clip's continuations the best `[batch, 2 * beams]`: token, both sums, and the row they continue."""
        values, tokens = body.ops("TopK", scores, self._twice, outputs=2, axis=1)
        gains = body.op("GatherElements", body.op("LogSoftmax", raw, axis=1), tokens, axis=1)
        never = body.constant("beams.never", np.array(-np.inf, np.float32))
        gains = body.op("Where", body.op("IsInf", values), never, gains)
        allowed = body.op("GatherElements", body.op("LogSoftmax", scores, axis=1), tokens, axis=1)
        shape = body.op("Concat", self._batch, body.ints(-1), axis=0)

        def joined(gained: ir.Value, name: str) -> ir.Value:
            return body.op(
                "Reshape", body.op("Add", body.op("Unsqueeze", state[name], body.ints(1)), gained), shape
            )

        score, place = body.ops("TopK", joined(gains, "score"), self._twice, outputs=2, axis=1)
        logprob = body.op("GatherElements", joined(allowed, "logprob"), place, axis=1)
        token = body.op("GatherElements", body.op("Reshape", tokens, shape), place, axis=1)
        row = body.op("Add", body.op("Div", place, self._twice), body.op("Mul", self._clips, self._beams))
        return token, score, logprob, row

    def _ended(
        self,
        body: GraphBuilder,
        state: Mapping[str, ir.Value],
        worth: ir.Value,
        sequences: ir.Value,
        logprob: ir.Value,
        length: ir.Value,
    ) -> dict[str, ir.Value]:
        """The best that have ended, among those known and those that end now."""
        worth, place = body.ops(
            "TopK", body.op("Concat", state["worth"], worth, axis=1), self._wide, outputs=2, axis=1
        )
        padding = body.op("Concat", self.rows, body.ints(1), axis=0)
        known = body.op("Concat", state["ended"], filled(body, padding, self._rules.pad), axis=1)
        known = body.op("Reshape", known, body.op("Concat", self._table, length, axis=0))
        pool = body.op(
            "Reshape",
            body.op("Concat", known, sequences, axis=1),
            body.op("Concat", body.ints(-1), length, axis=0),
        )
        thrice = body.op("Mul", self._clips, body.op("Add", self._twice, self._wide))
        rows = body.op("Reshape", body.op("Add", place, thrice), body.ints(-1))
        many = body.op("Concat", self._batch, self._twice, axis=0)
        steps = body.op("Concat", state["ended_steps"], body.op("Expand", length, many), axis=1)
        sums = body.op("Concat", state["ended_logprob"], logprob, axis=1)
        return {
            "worth": worth,
            "ended": body.op("Gather", pool, rows, axis=0),
            "ended_logprob": body.op("GatherElements", sums, place, axis=1),
            "ended_steps": body.op("GatherElements", steps, place, axis=1),
        }
