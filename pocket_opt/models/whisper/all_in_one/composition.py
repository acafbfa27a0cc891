"""Front end, encoder and decoder of an artifact, composed to one graph from samples to text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.all_in_one.beam_search import BeamSearch
from pocket_opt.models.whisper.all_in_one.file_graph import build_file_audio
from pocket_opt.models.whisper.all_in_one.greedy_search import GreedySearch
from pocket_opt.models.whisper.all_in_one.parts import insert_part
from pocket_opt.models.whisper.all_in_one.request_graph import Request, build_masks, build_request
from pocket_opt.models.whisper.all_in_one.search_steps import Search, Steps
from pocket_opt.models.whisper.all_in_one.speech_rules import SpeechRules, read_speech_rules
from pocket_opt.models.whisper.all_in_one.text_graph import build_text
from pocket_opt.models.whisper.all_in_one.token_bytes import token_bytes
from pocket_opt.models.whisper.all_in_one.token_loop import TokenLoop
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.onnx_graphs.files import load

NAME = "all_in_one"
PARTS = ("mel", "encoder", "decoder")
_LONG, _FLOAT, _STRING = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.STRING


def compose(model: Artifact, *, files: bool = False, beams: int = 1, length_penalty: float = 1.0) -> ir.Model:
    """One graph of the exported `model`, whatever was fused or quantized in its parts.

    In: `audio` float32 `[batch, samples]`, mono at 16 kHz, trimmed or padded to one window; where `files`, in its place
    `audio_bytes` uint8 `[bytes]`, a WAV, FLAC or MP3 file, the batch being one clip. May be left out:
    `language` (codes, "" to detect) and `task` of a multilingual model, strings `[1]` or `[batch]`; `timestamps` bool
    `[1]`; `max_new_tokens`, `min_new_tokens` int64 `[1]`; `start_frame` int64 `[1]` or `[batch]`: features before it
    are dropped and zeros follow, as where the end of a window is read again from a predicted time; `features` float32
    `[batch, mels, frames]`, heard in place of the audio, whose rows still count. Composed for more
    than one of `beams`, it searches by beams, of which `beams` and `length_penalty` are inputs `[1]` as well.
    Out: `text` strings `[batch]`; `tokens` int64 `[batch, length]` with the end token and padding; `spoken_language`
    strings `[batch]` if multilingual; `no_speech_prob`, `avg_logprob` float32 `[batch]`; `log_mel`, the features heard.

    Raises:
        PocketOptError: the decoder or the tokenizer is of a kind that cannot be composed.
    """
    rules = read_speech_rules(model)
    mel, encoder, decoder = (load(model.path(name)).graph for name in PARTS)
    graph = GraphBuilder(NAME)
    dims = model.metadata["dims"]
    rate, seconds = int(dims["sample_rate"]), float(dims["window_s"])
    if files:
        audio = build_file_audio(graph, rate, round(rate * seconds))
    else:
        audio = graph.input("audio", _FLOAT, ("batch", "samples"))
    batch = graph.op("Shape", audio, start=0, end=1)
    request = build_request(graph, rules, batch)
    heard = _features(graph, mel, audio, int(dims["mels"]), rules.frames)
    features = _from_frame(graph, heard, rules)
    # Not inside an If, to be left out on request: there ONNX Runtime would not heed `session.x64quantprecision`.
    encoded = insert_part(encoder, "encoder", {"features": features}, graph, graph)
    cross = {name: value for name, value in encoded.items() if name.startswith("cross_")}
    masks = build_masks(graph, rules, request)
    search: Search = GreedySearch(rules, request, batch)
    if beams > 1:
        search = widened = BeamSearch(graph, rules, batch, beams, length_penalty)
        request = _of_rows(graph, search, request)
        widened.attach(request, masks)
        cross = {name: search.of_rows(graph, value) for name, value in cross.items()}
    steps = TokenLoop(graph, rules, request, masks, search).build(decoder, cross)
    _answer(graph, rules, steps, _pieces(model, rules))
    graph.output(graph.op("Identity", heard), "log_mel", ("batch", int(dims["mels"]), rules.frames))
    return graph.build()


def _of_rows(graph: GraphBuilder, search: Search, request: Request) -> Request:
    """What is asked for, for every row of a search."""
    language, task = (one and search.of_rows(graph, one) for one in (request.language, request.task))
    return replace(request, language=language, task=task)


def _pieces(model: Artifact, rules: SpeechRules) -> list[bytes]:
    """The bytes of every token; none for times."""
    tokenizer = json.loads(model.file("processor", "tokenizer.json").read_text(encoding="utf-8"))
    pieces = token_bytes(tokenizer, rules.timestamp_begin)
    return [*pieces, *[b""] * (rules.vocab - len(pieces))]


def _features(graph: GraphBuilder, mel: ir.Graph, audio: ir.Value, mels: int, frames: int) -> ir.Value:
    """`[batch, mels, frames]` of `audio` by the front end `mel`, or what is given as the input `features`."""
    with graph.scope("features"):
        nothing = ir.tensor(np.zeros((0, mels, frames), np.float32))
        stated = graph.input("features", _FLOAT, ("given", mels, frames), default=nothing)
        given, made = graph.body("given"), graph.body("made")
        shape = ("batch", mels, frames)
        given.output(given.op("Identity", stated), "features.given", shape)
        found = insert_part(mel, "mel", {"audio": audio}, made, graph)["features"]
        made.output(made.op("Identity", found), "features.made", shape)
        count = graph.op("Squeeze", graph.op("Shape", stated, start=0, end=1), graph.ints(0))
        there = graph.op("Greater", count, graph.scalar(0))
        return graph.op("If", there, then_branch=given.graph, else_branch=made.graph)


def _from_frame(graph: GraphBuilder, features: ir.Value, rules: SpeechRules) -> ir.Value:
    """`features` `[batch, mels, frames]` from the input `start_frame` on, filled up with zeros."""
    with graph.scope("start_frame"):
        start = graph.input("start_frame", _LONG, ("starts",), default=ir.tensor(np.zeros(1, np.int64)))
        moved, kept = graph.body("moved"), graph.body("kept")
        frames = moved.op("Range", moved.scalar(0), moved.scalar(rules.frames), moved.scalar(1))
        where = moved.op("Add", frames, moved.op("Unsqueeze", start, moved.ints(1, 2)))
        inside = moved.op("Less", where, moved.scalar(rules.frames))
        where = moved.op("Where", inside, where, moved.scalar(0))
        where = moved.op("Expand", where, moved.op("Shape", features))
        found = moved.op("GatherElements", features, where, axis=2)
        silence = moved.constant("start_frame.silence", np.array(0, np.float32))
        shape = ("batch", "mels", rules.frames)
        moved.output(moved.op("Where", inside, found, silence), "start_frame.moved", shape)
        kept.output(kept.op("Identity", features), "start_frame.kept", shape)
        latest = graph.op("ReduceMax", start, keepdims=0)
        any_moved = graph.op("Greater", latest, graph.scalar(0))
        return graph.op("If", any_moved, then_branch=moved.graph, else_branch=kept.graph)


def _answer(graph: GraphBuilder, rules: SpeechRules, steps: Steps, pieces: list[bytes]) -> None:
    """The outputs."""
    with graph.scope("answer"):
        ends = graph.op("Cast", graph.op("Equal", steps.tokens, graph.scalar(rules.end)), to=_LONG.value)
        ended = graph.op("CumSum", ends, graph.scalar(1))
        said = graph.op("Equal", ended, graph.scalar(0))
    graph.output(build_text(graph, steps.tokens, said, pieces), "text", ("batch",), _STRING)
    graph.output(steps.tokens, "tokens", ("batch", "length"), _LONG)
    if steps.language is not None:
        graph.output(_code(graph, rules.languages, steps.language), "spoken_language", ("batch",), _STRING)
    graph.output(steps.silence, "no_speech_prob", ("batch",))
    graph.output(steps.logprob, "avg_logprob", ("batch",))


def _code(graph: GraphBuilder, languages: Mapping[str, int], language: ir.Value) -> ir.Value:
    """The codes of the ids `language` `[batch]`."""
    with graph.scope("spoken_language"):
        ids = graph.constant("spoken_language.ids", np.array([*languages.values()], np.int64))
        equal = graph.op("Equal", graph.op("Unsqueeze", language, graph.ints(1)), ids)
        place = graph.op("ArgMax", graph.op("Cast", equal, to=_LONG.value), axis=1, keepdims=0)
        return graph.op("Gather", graph.strings([code.encode() for code in languages]), place)
