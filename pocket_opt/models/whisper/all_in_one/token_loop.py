"""The token loop: one Loop whose body is the decoder with its cache, the rules and the choice.

The decoder is there once. Its first step reads the start token alone, its second the rest of the prompt, every further
one a token. That costs one step more than to read the prompt at once, but neither weights nor kernels' copies of them
twice, and language and probability of silence come for nothing. Keys and values go from step to step without a copy;
those of the audio are read from outside.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.all_in_one.choice_graph import Said
from pocket_opt.models.whisper.all_in_one.parts import insert_part
from pocket_opt.models.whisper.all_in_one.request_graph import Masks, Request
from pocket_opt.models.whisper.all_in_one.search_steps import Moment, Search, Steps, filled
from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped

FINAL_NORM = "decoder.layer_norm/"
"""How the name of the node before the output head begins."""

_LONG, _FLOAT, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


class TokenLoop:
    """Builds the loop in `graph` for a model with `rules`.

    Args:
        request: with one entry for each row of the `search`.
    """

    def __init__(
        self, graph: GraphBuilder, rules: SpeechRules, request: Request, masks: Masks, search: Search
    ) -> None:
        self._graph, self._rules, self._request, self._masks = graph, rules, request, masks
        self._search, self._batch = search, search.rows
        with graph.scope("loop"):
            self._body = graph.body("step")

    def build(self, decoder: ir.Graph, cross: Mapping[str, ir.Value]) -> Steps:
        """Decode with the cached `decoder`, which is taken apart.

        Args:
            cross: keys and values of the audio, by the decoder's input names, of every row.
        """
        graph, body, search = self._graph, self._body, self._search
        with graph.scope("loop"):
            caches = {str(port.name): port for port in decoder.inputs if str(port.name).startswith("past_")}
            carried = {
                **self._beginning(),
                **search.begin(graph),
                **{name: self._empty(port) for name, port in caches.items()},
            }
            step = body.input("loop.step", _LONG, ())
            body.input("loop.condition", _BOOL, ())
            state = {name: _port(body, f"loop.{name}", value) for name, value in carried.items()}
            raw, presents = self._decode(decoder, state, cross)
            results = self._advance(step, raw, state)
            if "order" in results:
                presents = {
                    name: body.op("Gather", one, results["order"], axis=0) for name, one in presents.items()
                }
            results |= presents
            body.output(self._any(search.going_on(results)), "loop.going_on", (), _BOOL)
            for name, start in carried.items():
                body.output(results[name], f"loop.next_{name}", _grown(start), _dtype(start))
            for name in search.per_step:
                dtype = _LONG if name == "token" else _FLOAT
                body.output(results[name], f"loop.{name}", (search.row_dim,), dtype)
            yes = graph.constant("loop.yes", np.array(True))
            names = (*carried, *search.per_step)
            found = graph.ops(
                "Loop", self._masks.steps, yes, *carried.values(), outputs=len(names), body=body.graph
            )
            return search.steps(graph, dict(zip(names, found, strict=True)), self._masks.first)

    def _beginning(self) -> dict[str, ir.Value]:
        """What the first step finds."""
        graph, rules, rows = self._graph, self._rules, self._search.row_dim
        column = graph.op("Concat", self._batch, graph.ints(1), axis=0)
        begun = {
            "tokens": shaped(filled(graph, column, rules.start), (rows, "fed"), _LONG),
            "before": shaped(filled(graph, self._batch, rules.start), (rows,), _LONG),
            "latest": shaped(filled(graph, self._batch, rules.timestamp_begin - 1), (rows,), _LONG),
            "silence": shaped(filled(graph, self._batch, 0.0), (rows,)),
        }
        if self._request.task is None:
            return begun
        plain = graph.op("Cast", graph.op("Not", self._request.timestamps), to=_LONG.value)
        wide = graph.op("Concat", self._batch, graph.op("Reshape", plain, graph.ints(1)), axis=0)
        task = graph.op("Unsqueeze", self._request.task, graph.ints(1))
        rest = graph.op("Concat", task, filled(graph, wide, rules.no_timestamps), axis=1)
        return {**begun, "rest": shaped(rest, (rows, "rest"), _LONG)}

    def _empty(self, port: ir.Value) -> ir.Value:
        """A cache `[batch, heads, 0, head_dim]` like `port`."""
        graph = self._graph
        _, heads, _, width = shape_of(port)
        shape = graph.op("Concat", self._batch, graph.ints(int(heads), 0, int(width)), axis=0)
        zero = ir.tensor(np.zeros(1, _dtype(port).numpy()))
        stated = (self._search.row_dim, *shape_of(port)[1:])
        return shaped(graph.op("ConstantOfShape", shape, value=zero), stated, _dtype(port))

    def _decode(
        self, decoder: ir.Graph, state: Mapping[str, ir.Value], cross: Mapping[str, ir.Value]
    ) -> tuple[ir.Value, dict[str, ir.Value]]:
        """The logits `[batch, vocab]` of the last position, and the next caches by the name of the past ones."""
        _keep_last(decoder, self._graph)
        inputs = {str(port.name): {**state, **cross}[str(port.name)] for port in decoder.inputs}
        outputs = insert_part(decoder, "decoder", inputs, self._body, self._graph)
        raw = self._body.op("Squeeze", outputs.pop("logits"), self._body.ints(1))
        return raw, {name.replace("present_", "past_"): value for name, value in outputs.items()}

    def _advance(self, step: ir.Value, raw: ir.Value, state: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """Choose by the logits `raw`, and what the next step finds."""
        body = self._body
        row = body.op("Gather", self._masks.of_step, step, axis=0)
        scores = body.op("Add", raw, body.op("Gather", self._masks.rows, row, axis=0))
        last = body.op("Gather", state["tokens"], body.scalar(-1), axis=1)
        said = Said(last, state["before"], state["latest"], step, self._masks.first)
        results = self._search.advance(body, Moment(raw, scores, said), state)
        token = results["token"]
        column = body.op("Unsqueeze", token, body.ints(1))
        latest = state["latest"]
        if "order" in results:
            last, latest = (body.op("Gather", values, results["order"]) for values in (last, latest))
        results |= {
            "tokens": column,
            "before": last,
            "latest": body.op("Max", latest, token),
            "silence": self._silence(step, raw, state["silence"]),
        }
        if "rest" in state:
            results["tokens"] = body.op("Concat", column, state["rest"], axis=1)
            results["rest"] = body.op("Slice", state["rest"], body.ints(0), body.ints(0), body.ints(1))
        return results

    def _silence(self, step: ir.Value, raw: ir.Value, known: ir.Value) -> ir.Value:
        """The probability of the no-speech token after the start token; later steps hand it on."""
        body = self._body
        first, later = body.body("first"), body.body("later")
        probability = first.op(
            "Gather", first.op("Softmax", raw, axis=1), first.scalar(self._rules.no_speech), axis=1
        )
        first.output(probability, "silence.first", (self._search.row_dim,))
        later.output(later.op("Identity", known), "silence.known", (self._search.row_dim,))
        beginning = body.op("Equal", step, body.scalar(0))
        return body.op("If", beginning, then_branch=first.graph, else_branch=later.graph)

    def _any(self, flags: ir.Value) -> ir.Value:
        body = self._body
        highest = body.op("ReduceMax", body.op("Cast", flags, to=ir.DataType.INT32.value), keepdims=0)
        return body.op("Cast", highest, to=_BOOL.value)


def _keep_last(decoder: ir.Graph, root: GraphBuilder) -> None:
    """Let the head read the last position only: of a prompt, nobody asks what could have followed its first tokens."""
    norms = [node for node in decoder if (node.name or "").startswith(FINAL_NORM)]
    if len(norms) != 1:
        raise PocketOptError(
            f"the decoder has {len(norms)} nodes named '{FINAL_NORM}...', and its head is found by the one",
            where="component decoder",
            fix="export the model with export_onnx",
        )
    hidden = norms[0].outputs[0]
    readers = list(hidden.uses())
    last = ir.node("Gather", [hidden, root.ints(-1)], {"axis": 1}, name="decoder.last_position/Gather")
    last.outputs[0].name = "decoder.last_position"
    decoder.insert_after(norms[0], last)
    for node, index in readers:
        node.replace_input_with(index, last.outputs[0])


def _port(body: GraphBuilder, name: str, value: ir.Value) -> ir.Value:
    return body.input(name, _dtype(value), shape_of(value))


def _grown(value: ir.Value) -> list[int | str]:
    """The shape of the next value: equal names would have ONNX Runtime share memory of unequal size."""
    return [
        size if size in ("batch", "rows") or isinstance(size, int) else f"next_{size}"
        for size in shape_of(value)
    ]


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None
    return value.dtype
