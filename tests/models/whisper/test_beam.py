"""Beam search against `generate(num_beams=n)` of transformers, and its pieces."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from runner_fixtures import export, sound, talkative_checkpoint
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.beam import highest
from pocket_opt.models.whisper.runner.rules import log_sum_exp
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, RequestError
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import SpeechRuntime

SOUNDS = [sound(4, 1), sound(0.5, 0), sound(1.9, 2)]
MODELS = {
    "teacher": partial(talkative_checkpoint, seed=6),
    "distil": partial(talkative_checkpoint, seed=2, encoder_layers=3, decoder_layers=1),
    "all_words": partial(tiny_checkpoint, seed=1),
}
ASKED = [
    DecodeOptions("en", "transcribe", False, beams=2),
    DecodeOptions("de", "translate", True, beams=3, length_penalty=0.3),
    DecodeOptions(None, "transcribe", False, 17, beams=4, length_penalty=-1.0),
    DecodeOptions("en", "transcribe", True, beams=5, length_penalty=2.0),
]


class Opened:
    """The checkpoint in transformers, and what was exported from it."""

    def __init__(self, source: Artifact, directory: Path) -> None:
        self.reference = open_runtime(source, threads=1)
        self.exported: dict[str, SpeechRuntime] = {
            decoder: open_runtime(export(source, directory / decoder, decoder), threads=1)
            for decoder in ("kv_cache", "basic", "static")
        }


@pytest.fixture(scope="module", params=MODELS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    directory = tmp_path_factory.mktemp(request.param)
    return Opened(MODELS[request.param](directory / "source"), directory)


@pytest.mark.parametrize("options", ASKED, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_those_of_transformers(opened: Opened, batch: int, options: DecodeOptions) -> None:
    clips = SOUNDS[:batch]
    expected = [heard.tokens for heard in opened.reference.transcribe(clips, options)]
    for decoder, runtime in opened.exported.items():
        assert [heard.tokens for heard in runtime.transcribe(clips, options)] == expected, decoder


def test_beams_find_other_texts_than_greedy_decoding(opened: Opened) -> None:
    """What the comparison above rests on."""
    runtime = opened.exported["kv_cache"]
    found = [
        runtime.transcribe(SOUNDS, DecodeOptions("en", beams=beams, max_new_tokens=30)) for beams in (1, 5)
    ]
    assert any(one.tokens != five.tokens for one, five in zip(*found, strict=True))


def test_many_tokens_are_compared(tmp_path: Path) -> None:
    runtime = Opened(MODELS["all_words"](tmp_path / "source"), tmp_path).exported["kv_cache"]
    found = [heard.tokens for options in ASKED for heard in runtime.transcribe(SOUNDS, options)]
    assert len({token for tokens in found for token in tokens}) >= 20


@pytest.mark.parametrize("size", [7, 300, 5_000])
def test_the_highest_values_are_found_at_any_width(size: int) -> None:
    scores = np.random.default_rng(size).normal(0, 3, (4, size)).astype(np.float32)
    scores[2, 3:] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    found = highest(scores, 10)
    assert all(len(set(row)) == len(row) for row in found.tolist())
    np.testing.assert_array_equal(*(np.take_along_axis(scores, places, 1) for places in (found, expected)))


@pytest.mark.parametrize("beams", [0, 6, -1, 2.5])
def test_numbers_of_beams_out_of_range_are_refused(beams: int) -> None:
    with pytest.raises(RequestError, match=r"a number from 1 to 5; 1 is greedy decoding"):
        DecodeOptions(beams=beams)


def test_a_length_penalty_is_a_number() -> None:
    with pytest.raises(RequestError, match="length_penalty nan: a finite number"):
        DecodeOptions(beams=2, length_penalty=float("nan"))


def test_what_was_encoded_is_not_copied_when_beams_change_places(opened: Opened) -> None:
    model = opened.exported["kv_cache"]
    assert isinstance(model, Whisper)
    state = model.select(model.encode(model.features(SOUNDS[:2])), [0, 0, 1, 1])
    swapped = model.select(state, [1, 1, 2, 3])
    assert all(swapped.encoded[name] is state.encoded[name] for name in state.encoded)
    dropped = model.select(state, [3, 2])
    assert all(len(value.numpy()) == 2 for value in dropped.encoded.values())


def test_the_log_probability_is_that_of_the_text_among_allowed_tokens(opened: Opened) -> None:
    model = opened.exported["kv_cache"]
    assert isinstance(model, Whisper)
    options = DecodeOptions("en", max_new_tokens=12, beams=3)
    [heard] = model.transcribe(SOUNDS[:1], options)
    prompt, end = model.prompt(options), model.vocabulary.end
    tokens = [*heard.tokens, *[end] * (len(heard.tokens) < 12)]
    fed = np.array([[*prompt, *tokens]], np.int64)
    logits, _ = model.decode(fed, model.encode(model.features(SOUNDS[:1])))
    total = 0.0
    for step, token in enumerate(tokens):
        scores = logits[:, len(prompt) + step - 1].copy()
        model._rules.apply(scores, np.array([tokens[:step]], np.int64).reshape(1, step), timestamps=False)
        total += float(scores[0, token] - log_sum_exp(scores)[0])
    assert heard.avg_logprob == pytest.approx(total / len(tokens), abs=1e-3)
