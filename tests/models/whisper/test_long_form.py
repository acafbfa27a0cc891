"""Long audio: the sequential algorithm against generate() of transformers, and its decisions one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runner_fixtures import SAMPLE_RATE, export, sound, talkative_checkpoint
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

from pocket_opt.data.dataset import Dataset
from pocket_opt.models.whisper.runner.long_form import compression_ratio, is_bad, is_silence
from pocket_opt.models.whisper.runner.mel import whole_features
from pocket_opt.models.whisper.runner.search import Found
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, Fallback, RequestError
from pocket_opt.models.whisper.runner.transformers_model import TransformersModel
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

TEACHER = Path(__file__).parents[3] / "pocket_opt" / "sample" / "teacher"
STRICT = Fallback((0.0,), 1.35, -1.0, 0.6)
"""Thresholds without a temperature to fall back to: what is silent is left out, nothing is drawn."""

ALL_BUT_DRAWN = Fallback((0.0, 1e-4), 1.35, -0.2, 0.6)
"""A second temperature so low that a draw is the most probable token: the same in both."""


class Pair:
    """A model in transformers and exported."""

    def __init__(self, source: Path, exported: Path) -> None:
        self.reference = TransformersModel(source, threads=1)
        self.exported = Whisper(exported, threads=1)

    def agree(self, audio: list[np.ndarray], options: DecodeOptions) -> None:
        expected = self.reference.transcribe(audio, options)
        found = self.exported.transcribe(audio, options)
        assert [heard.tokens for heard in found] == [heard.tokens for heard in expected]
        assert [heard.segments for heard in found] == [heard.segments for heard in expected]
        assert [heard.language for heard in found] == [heard.language for heard in expected]


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("talkative")
    source = talkative_checkpoint(directory / "source", seed=6)
    return Pair(source.root, export(source, directory / "exported").root)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("sample")
    (directory / "source").mkdir()
    step = load_pass("load_source")
    source = execute(step, {}, step.Params(path=str(TEACHER), digest=""), directory / "source").artifact
    return Pair(source.root, export(source, directory / "exported").root)


@pytest.fixture(scope="module")
def three_minutes() -> np.ndarray:
    """English sample clips one after the other, with pauses, three minutes in all."""
    clips = [clip for clip in Dataset.open("sample:evaluation") if clip.language == "en" and clip.text]
    parts = [np.pad(clip.samples(), (0, SAMPLE_RATE // 4)) for clip in clips]
    return np.concatenate(parts)[: 180 * SAMPLE_RATE]


def test_three_minutes(sample: Pair, three_minutes: np.ndarray) -> None:
    assert len(three_minutes) == 180 * SAMPLE_RATE
    sample.agree([three_minutes], DecodeOptions("en", fallback=None))
    [heard] = sample.exported.transcribe([three_minutes], DecodeOptions("en", fallback=None))
    assert len(heard.segments) > 40
    assert heard.segments[-1].end <= 180.0


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions("en", fallback=STRICT),
        DecodeOptions("en", fallback=ALL_BUT_DRAWN, condition_on_previous=True),
        DecodeOptions(None, fallback=None, condition_on_previous=True),
        DecodeOptions("en", fallback=None, beams=3),
        DecodeOptions("de", "translate", fallback=None, max_new_tokens=9),
    ],
    ids=["thresholds", "fallback", "conditioned", "beams", "limit"],
)
def test_half_a_minute_in_other_ways(
    sample: Pair, talkative: Pair, three_minutes: np.ndarray, options: DecodeOptions
) -> None:
    sample.agree([three_minutes[: 30 * SAMPLE_RATE]], options)
    talkative.agree([sound(9.3, 1), sound(3, 2), sound(13.1, 0)], options)


def test_nothing_is_lost_at_the_edges_of_windows(sample: Pair, three_minutes: np.ndarray) -> None:
    clips = [clip for clip in Dataset.open("sample:evaluation") if clip.language == "en" and clip.text]
    said = " ".join(clip.text for clip in clips[:12]).split()
    audio = np.concatenate([np.pad(clip.samples(), (0, SAMPLE_RATE // 4)) for clip in clips[:12]])
    [heard] = sample.exported.transcribe([audio], DecodeOptions("en"))
    assert len(heard.text.split()) >= 0.9 * len(said)


def test_the_segments_of_a_stream_are_those_of_the_whole(talkative: Pair) -> None:
    audio, options = sound(13.1, 0), DecodeOptions("en", fallback=None)
    whole = talkative.exported.transcribe([audio], options)[0]
    stream = talkative.exported.stream(audio, options)
    assert (next(stream), *stream) == whole.segments
    assert tuple(talkative.reference.stream(audio, options)) == whole.segments


def test_a_batch_is_the_sum_of_its_clips(talkative: Pair) -> None:
    audio = [sound(9.3, 1), sound(2, 2), sound(13.1, 0), sound(4.2, 3)]
    for options in (
        DecodeOptions("en", fallback=STRICT),
        DecodeOptions("en", condition_on_previous=True, fallback=None),
    ):
        together = talkative.exported.transcribe(audio, options)
        assert together == [talkative.exported.transcribe([clip], options)[0] for clip in audio]


@pytest.mark.parametrize("seconds", [4.01, 7.953, 30])
def test_features_of_a_whole_recording_are_those_of_the_extractor(talkative: Pair, seconds: float) -> None:
    audio = sound(seconds, 1) * np.linspace(0.01, 1, round(seconds * SAMPLE_RATE), dtype=np.float32)
    found = whole_features(talkative.exported._backend.features, audio, 4 * SAMPLE_RATE)
    expected = talkative.reference._whole_features(audio)[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


# ---- falling back


def test_temperatures_are_tried_until_one_is_good(talkative: Pair) -> None:
    """A random model is improbable at any temperature, so all are tried, the last one stays, and it is drawn."""
    audio, model = [sound(9.3, 1)], talkative.exported
    calm = model.transcribe(audio, DecodeOptions("en", fallback=None))
    hopeless = Fallback((0.0, 0.6, 1.0), None, 0.0, None)
    drawn = model.transcribe(audio, DecodeOptions("en", fallback=hopeless))
    assert drawn != calm
    assert drawn == model.transcribe(audio, DecodeOptions("en", fallback=hopeless))
    other = replace(hopeless, seed=1)
    assert drawn != model.transcribe(audio, DecodeOptions("en", fallback=other))
    content = Fallback((0.0, 0.6, 1.0), None, -1e9, None)
    assert model.transcribe(audio, DecodeOptions("en", fallback=content)) == calm
    reference = [talkative.reference.transcribe(audio, DecodeOptions("en", fallback=hopeless)) for _ in "ab"]
    assert reference[0] == reference[1]


def test_silence_is_left_out(talkative: Pair) -> None:
    never = DecodeOptions("en", fallback=Fallback((0.0,), None, 0.0, -1.0))
    [heard] = talkative.exported.transcribe([sound(9.3, 1)], never)
    assert (heard.text, heard.tokens, heard.segments) == ("", (), ())
    assert heard.no_speech_prob is not None


@pytest.mark.parametrize("vocab", [602, 51865])
def test_decisions_are_those_of_transformers(vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    for length in (1, 5, 60, 200):
        tokens = rng.integers(0, min(vocab, 4 * length), length).tolist()
        expected = WhisperGenerationMixin._retrieve_compression_ratio(torch.tensor(tokens), vocab)
        assert compression_ratio(tokens, vocab) == expected
    fallback = Fallback()
    good = Found([5, 9, 80, 200, 31], -0.5 * 6, 6, 0.9)
    assert not is_bad(good, fallback, 3, vocab)
    assert not is_silence(good, fallback)
    improbable = replace(good, logprob=-1.5 * 6)
    assert is_bad(improbable, fallback, 3, vocab)
    assert is_silence(improbable, fallback)
    assert not is_silence(replace(improbable, no_speech=0.5), fallback)
    repeating = Found([5, 9] * 60, -0.1 * 121, 121, 0.0)
    assert is_bad(repeating, fallback, 3, vocab)
    assert not is_bad(repeating, replace(fallback, compression_ratio=None), 3, vocab)


@pytest.mark.parametrize("temperatures", [(), (-0.1,), (0.0, float("inf"))])
def test_temperatures_that_are_none_are_refused(temperatures: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="one or more numbers from 0 on"):
        Fallback(temperatures)
