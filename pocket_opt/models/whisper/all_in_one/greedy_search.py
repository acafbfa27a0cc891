"""What each step of greedy decoding adds: the most probable token that the rules allow, until every row has ended."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.choice_graph import build_choice
from pocket_opt.models.whisper.all_in_one.request_graph import Request
from pocket_opt.models.whisper.all_in_one.search_steps import Moment, Steps, filled, without_prompt
from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shaped

_LONG, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


class GreedySearch:
    """See `Search`."""

    row_dim = "batch"
    per_step: tuple[str, ...] = ("token", "gain")

    def __init__(self, rules: SpeechRules, request: Request, batch: ir.Value) -> None:
        self._rules, self._request, self._batch = rules, request, batch
        self.rows = batch

    def of_rows(self, graph: GraphBuilder, values: ir.Value) -> ir.Value:  # noqa: ARG002
        """A row is a clip."""
        return values

    def begin(self, graph: GraphBuilder) -> dict[str, ir.Value]:
        """Every row runs."""
        return {"running": shaped(filled(graph, self._batch, True), ("batch",), _BOOL)}

    def advance(
        self, body: GraphBuilder, moment: Moment, state: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """Choose; rows that have ended are padded."""
        rules, request = self._rules, self._request
        token, gain = build_choice(body, rules, moment.scores, moment.said, request.timestamps)
        if request.language is not None:
            told = body.op("GreaterOrEqual", request.language, body.scalar(0))
            told = body.op("And", told, body.op("Equal", moment.said.step, body.scalar(0)))
            token = body.op("Where", told, request.language, token)
        token = body.op("Where", state["running"], token, body.scalar(rules.pad))
        ended = body.op("Equal", token, body.scalar(rules.end))
        running = body.op("And", state["running"], body.op("Not", ended))
        return {"token": token, "gain": gain, "running": running}

    def going_on(self, results: Mapping[str, ir.Value]) -> ir.Value:
        """Rows that run."""
        return results["running"]

    def steps(self, graph: GraphBuilder, found: Mapping[str, ir.Value], first: ir.Value) -> Steps:
        """Rows of steps to rows of the batch."""
        tokens, gains = (graph.op("Transpose", found[name], perm=[1, 0]) for name in self.per_step)
        language = None
        if self._request.language is not None:
            language = graph.op("Gather", tokens, graph.scalar(0), axis=1)
        tokens, gains = (without_prompt(graph, rows, first) for rows in (tokens, gains))
        return Steps(tokens, self._mean(graph, tokens, gains), language, found["silence"])

    def _mean(self, graph: GraphBuilder, tokens: ir.Value, gains: ir.Value) -> ir.Value:
        """The mean of `gains` up to the end token, which counts."""
        ends = graph.op("Cast", graph.op("Equal", tokens, graph.scalar(self._rules.end)), to=_LONG.value)
        before = graph.op("Sub", graph.op("CumSum", ends, graph.scalar(1)), ends)
        counted = graph.op("Cast", graph.op("Equal", before, graph.scalar(0)), to=ir.DataType.FLOAT.value)
        gained = graph.op("ReduceSum", graph.op("Mul", gains, counted), graph.ints(1), keepdims=0)
        return graph.op("Div", gained, graph.op("ReduceSum", counted, graph.ints(1), keepdims=0))
