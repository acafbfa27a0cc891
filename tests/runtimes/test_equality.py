"""All decoders say what transformers' generate() says, token by token, in every way of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from runner_fixtures import export, sound, talkative_checkpoint

from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime, Transcript

SOUNDS = [sound(0.5, 0), sound(4, 1), sound(1.9, 2)]
OPTIONS = [
    DecodeOptions(language, task, timestamps)
    for timestamps in (False, True)
    for language, task in (("en", "transcribe"), ("de", "translate"), (None, "transcribe"))
]
MODELS = {
    "several_passes": {"seed": 6},
    "pad_is_not_end": {"seed": 3, "pad": 50},
    "few_encoder_layers": {"seed": 2, "encoder_layers": 1, "decoder_layers": 3},
    "large_mel": {"seed": 4, "mels": 128, "window_s": 6},
}


@dataclass
class Model:
    reference: SpeechRuntime
    exported: dict[str, SpeechRuntime]


def opened(directory: Path, shape: dict[str, object]) -> Model:
    source = talkative_checkpoint(directory / "source", **shape)  # type: ignore[arg-type]
    exported = {name: export(source, directory / name, name) for name in ("kv_cache", "basic", "static")}
    reference = open_runtime(source, threads=1)
    return Model(reference, {name: open_runtime(found, threads=1) for name, found in exported.items()})


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return opened(tmp_path_factory.mktemp(request.param), MODELS[request.param])


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return opened(tmp_path_factory.mktemp("english"), {"seed": 1, "multilingual": False})


def in_batches(runtime: SpeechRuntime, batch: int, options: DecodeOptions) -> list[Transcript]:
    found: list[Transcript] = []
    for first in range(0, len(SOUNDS), batch):
        found += runtime.transcribe(SOUNDS[first : first + batch], options)
    return found


def check(model: Model, batch: int, options: DecodeOptions) -> list[Transcript]:
    expected = in_batches(model.reference, batch, options)
    for runtime in model.exported.values():
        found = in_batches(runtime, batch, options)
        assert [part.tokens for part in found] == [part.tokens for part in expected]
        assert [part.text for part in found] == [part.text for part in expected]
        assert [part.language for part in found] == [part.language for part in expected]
        if options.timestamps:
            assert [part.segments for part in found] == [part.segments for part in expected]
    return expected


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_multilingual(model: Model, batch: int, options: DecodeOptions) -> None:
    check(model, batch, options)


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_english_only(english: Model, batch: int, timestamps: bool) -> None:
    found = check(english, batch, DecodeOptions(timestamps=timestamps))
    assert {part.language for part in found} == {None}


@pytest.mark.parametrize("limit", [1, 5, 1000])
@pytest.mark.parametrize("timestamps", [False, True])
def test_limits(model: Model, limit: int, timestamps: bool) -> None:
    options = DecodeOptions("en", timestamps=timestamps, max_new_tokens=limit)
    found = check(model, 3, options)
    assert timestamps or all(len(part.tokens) <= limit for part in found)


def test_longer_than_a_window(model: Model) -> None:
    audio = [sound(9.3, 1), sound(3, 2)]
    options = DecodeOptions(timestamps=True, fallback=None)
    expected = model.reference.transcribe(audio, options)
    assert model.exported["kv_cache"].transcribe(audio, options) == [
        # the reference leaves probabilities out
        Transcript(one.text, one.tokens, one.segments, one.language, two.no_speech_prob, two.avg_logprob)
        for one, two in zip(expected, model.exported["kv_cache"].transcribe(audio, options), strict=True)
    ]


def test_models_are_not_degenerate(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the tests above rest on: pairs of times, several passes, rows of unequal length, many tokens."""
    model = opened(tmp_path_factory.mktemp("several_passes"), MODELS["several_passes"])
    runtime = model.exported["kv_cache"]
    found = runtime.transcribe(SOUNDS, DecodeOptions("en", timestamps=True))
    assert max(len(part.segments) for part in found) >= 3
    assert max(len(part.tokens) for part in found) > 40  # more than one pass can give
    assert len({len(part.tokens) for part in found}) > 1
    assert len({token for part in found for token in part.tokens}) >= 10
