"""Times of words: those of `generate(return_token_timestamps=True)` of transformers, in every decoder and precision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_whisper import run_pass
from runner_fixtures import SAMPLE_RATE, sound, talkative_checkpoint
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Clip, Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, RequestError, Transcript
from pocket_opt.models.whisper.runner.transformers_model import TransformersModel
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.models.whisper.runner.word_times import (
    MEDIAN_WIDTH,
    alignment_heads,
    first_frames,
    smoothed,
    warping_path,
)
from pocket_opt.models.whisper.runner.words import split_words
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.shipped import locate

ASKED = DecodeOptions("en", timestamps=True, fallback=None, word_timestamps=True)
HEADS = [[0, 1], [1, 0], [1, 3]]
FRAME_S = 0.02
INT8 = (("dynamic_int8", {"components": ("encoder",)}), ("weight_only", {"components": ("decoder",)}))
CHAINS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "unfused": (),
    "basic": (("fuse", {}),),
    "int8_cache": (("fuse", {}), ("quantize_cross_cache", {})),
    "fp16_cache": (("fuse", {}), ("quantize_cross_cache", {"dtype": "fp16"})),
    "high": (("fuse", {}), *INT8, ("quantize_embedding", {}), ("store_fp16", {})),
    "extreme": (
        ("fuse", {}),
        INT8[0],
        ("weight_only", {"components": ("decoder",), "bits": 4, "symmetric": False, "algorithm": "k_quant"}),
        ("quantize_embedding", {"bits": 4, "algorithm": "k_quant"}),
        ("store_fp16", {}),
    ),
}


class Pair:
    """A model in transformers and, exported with its attention, in ONNX Runtime."""

    def __init__(self, source: Artifact, directory: Path) -> None:
        self.source, self.directory = source, directory
        self.reference = TransformersModel(source.root, threads=1)
        self.exported = Whisper(self.made("fused", ("fuse", {})).root, threads=1)

    def made(self, name: str, *chain: tuple[str, dict[str, Any]], decoder: str = "kv_cache") -> Artifact:
        place = self.directory / name
        model = run_pass(
            "export_onnx", self.source, place / "export", decoder=decoder, word_timestamps=True
        ).artifact
        for number, (step, params) in enumerate(chain):
            model = run_pass(step, model, place / str(number), **params).artifact
        return model

    def opened(self, name: str, *chain: tuple[str, dict[str, Any]], decoder: str = "kv_cache") -> Whisper:
        return Whisper(self.made(name, *chain, decoder=decoder).root, threads=1)

    def agree(self, audio: np.ndarray, options: DecodeOptions = ASKED) -> list[tuple[float, float, str]]:
        """Both models, and generate() itself, say the same at the same times; these words."""
        [expected], [found] = (
            model.transcribe([audio], options) for model in (self.reference, self.exported)
        )
        assert found.tokens == expected.tokens
        words = self._generated(audio, options)
        end = len(audio) / SAMPLE_RATE
        # Windows that begin behind the audio have words, too; generate() counts their frames from the end.
        assert [word for word in shown(found) if word[0] < end] == [word for word in words if word[0] < end]
        assert shown(found) == shown(expected)
        assert [word.probability for word in found.words] == pytest.approx(
            [word.probability for word in expected.words], abs=2e-4
        )
        return words

    def _generated(self, audio: np.ndarray, options: DecodeOptions) -> list[tuple[float, float, str]]:
        """The words at the times that generate() gives their tokens, each from the end of the one before."""
        model, long = self.reference, len(audio) > self.reference.window_s * SAMPLE_RATE
        how = {"truncation": False, "padding": "longest"} if long else {}
        given = model._extractor(
            audio, sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt", **how
        )
        settings = model._model.generation_config
        stated, config = getattr(settings, "alignment_heads", None), model._model.config
        settings.alignment_heads = stated or alignment_heads(
            {}, config.decoder_layers, config.decoder_attention_heads
        )
        thresholds = ("logprob_threshold", "compression_ratio_threshold", "no_speech_threshold")
        found = model._model.generate(
            given.input_features,
            attention_mask=given.attention_mask,
            return_timestamps=True,
            return_token_timestamps=True,
            return_segments=True,
            language=options.language,
            task=options.task,
            num_beams=options.beams,
            do_sample=False,
            **(dict.fromkeys(thresholds) | {"temperature": (0.0,)} if long else {}),
        )
        model._model.set_attn_implementation("sdpa")
        words = []
        for part in found["segments"][0]:
            tokens, times = part["tokens"].tolist(), part["token_timestamps"].tolist()
            said = [place for place, token in enumerate(tokens) if token < model.vocabulary.end]
            for text, count in split_words(
                [tokens[place] for place in said], model.vocabulary.decode, options.language
            ):
                first, last, said = said[0], said[count - 1], said[count:]
                words.append((round(times[first - 1], 2), round(times[last], 2), text))
        return words


def shown(heard: Transcript) -> list[tuple[float, float, str]]:
    return [(round(word.start, 2), round(word.end, 2), word.text) for word in heard.words]


def sample_clips(count: int | None = None) -> list[Clip]:
    clips = [clip for clip in Dataset.open("sample:evaluation") if clip.text]
    return [clip for clip in clips if clip.duration_s <= 4][:count]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    step, directory = load_pass("load_source"), tmp_path_factory.mktemp("sample")
    teacher = str(locate("sample:teacher", holding="config.json", where="-"))
    (directory / "source").mkdir()
    source = execute(step, {}, step.Params(path=teacher, digest=""), directory / "source").artifact
    return Pair(source, directory)


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Random weights, and heads of alignment stated as real checkpoints state them."""
    directory = tmp_path_factory.mktemp("talkative")
    source = talkative_checkpoint(directory / "source", seed=6)
    state_heads(source, HEADS)
    return Pair(source, directory)


def state_heads(source: Artifact, heads: list[list[int]]) -> None:
    path = source.root / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "alignment_heads": heads}))


# ---- the same as transformers


def test_words_of_the_sample_are_those_of_generate(sample: Pair) -> None:
    for clip in sample_clips(4):
        words = sample.agree(clip.samples(), replace(ASKED, language=clip.language))
        assert words[0][0] == 0.0
        assert words[-1][1] <= clip.duration_s


@pytest.mark.nightly
def test_words_of_all_clips_are_those_of_generate(sample: Pair) -> None:
    for clip in sample_clips():
        sample.agree(clip.samples(), replace(ASKED, language=clip.language))


@pytest.mark.parametrize(
    "options", [ASKED, replace(ASKED, language="de", task="translate", beams=3)], ids=str
)
def test_heads_that_a_checkpoint_states(talkative: Pair, options: DecodeOptions) -> None:
    """What the model says of these sounds ends by itself, not at the limit of tokens."""
    for audio in (sound(4, 1), sound(1.9, 2)):
        assert talkative.agree(audio, options)


@pytest.mark.parametrize("beams", [1, 2])
def test_audio_of_several_windows(sample: Pair, beams: int) -> None:
    audio = np.concatenate([np.pad(clip.samples(), (0, SAMPLE_RATE // 4)) for clip in sample_clips(4)])
    words = sample.agree(audio, replace(ASKED, beams=beams))
    assert len(words) > 20
    assert words[-1][0] > 8
    assert [word[0] for word in words] == sorted(word[0] for word in words)


def test_windows_that_are_read_twice(talkative: Pair) -> None:
    talkative.agree(sound(9.3, 1))
    conditioned = replace(ASKED, condition_on_previous=True, language=None)
    [expected], [found] = (
        model.transcribe([sound(13.1, 0)], conditioned) for model in (talkative.reference, talkative.exported)
    )
    assert expected.words
    assert shown(found) == shown(expected)


# ---- what is our own


def test_a_batch_is_the_sum_of_its_clips(sample: Pair) -> None:
    audio = [clip.samples() for clip in sample_clips(2)] + [sound(4.8, 1)]
    for model, options in (
        (sample.exported, ASKED),
        (sample.exported, replace(ASKED, timestamps=False, language=None)),
        (sample.reference, ASKED),
    ):
        together = model.transcribe(audio, options)
        assert [shown(heard) for heard in together] == [
            shown(model.transcribe([clip], options)[0]) for clip in audio
        ]


def test_the_text_is_the_same_with_and_without(sample: Pair) -> None:
    clip = sample_clips(1)[0]
    for timestamps in (False, True):
        options = replace(ASKED, timestamps=timestamps)
        [timed] = sample.exported.transcribe([clip.samples()], options)
        [plain] = sample.exported.transcribe([clip.samples()], replace(options, word_timestamps=False))
        assert "".join(word.text for word in timed.words).strip() == timed.text == plain.text
        assert timed.tokens == plain.tokens
        assert not plain.words
        assert all(0 < word.probability <= 1 for word in timed.words)
        assert list(sample.exported.stream(clip.samples(), options)) == list(timed.segments)


def test_words_follow_the_speech(sample: Pair) -> None:
    """A second of silence before a clip moves its words by a second, the first word aside, which begins at 0."""
    clip = next(clip for clip in sample_clips() if clip.duration_s < 2.9)
    options = replace(ASKED, language=clip.language)
    [early], [late] = (
        sample.exported.transcribe([np.pad(clip.samples(), (silence, 0))], options)
        for silence in (0, SAMPLE_RATE)
    )
    assert early.text == late.text
    moved = np.median([after.end - before.end for before, after in zip(early.words, late.words, strict=True)])
    assert moved == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("chain", CHAINS)
def test_every_precision_keeps_the_times(sample: Pair, chain: str) -> None:
    model = sample.opened(chain, *CHAINS[chain])
    clips = sample_clips(3)
    exact = [
        sample.exported.transcribe([clip.samples()], replace(ASKED, language=clip.language))[0]
        for clip in clips
    ]
    found = [model.transcribe([clip.samples()], replace(ASKED, language=clip.language))[0] for clip in clips]
    if chain == "unfused":
        assert list(map(shown, found)) == list(map(shown, exact))
    for one, other in zip(exact, found, strict=True):
        assert other.text == one.text
        apart = [abs(a.end - b.end) for a, b in zip(one.words, other.words, strict=True)]
        assert np.median(apart) <= FRAME_S + 1e-6


@pytest.mark.parametrize("openvino", [False, True], ids=["onnxruntime", "openvino"])
@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_every_decoder_and_runtime(talkative: Pair, decoder: str, *, openvino: bool) -> None:
    chain = [("convert_openvino", {})] if openvino else [("fuse", {})]
    model = talkative.opened(f"{decoder}-{openvino}", *chain, decoder=decoder)
    audio = [sound(3, 1), sound(9.3, 0)]
    expected = talkative.reference.transcribe(audio, ASKED)
    assert list(map(shown, model.transcribe(audio, ASKED))) == list(map(shown, expected))


def test_a_shortened_audio_context(sample: Pair, tmp_path: Path) -> None:
    model = run_pass(
        "export_onnx", sample.source, tmp_path / "auto", audio_context="auto", word_timestamps=True
    ).artifact
    clip = sample_clips(1)[0]
    [heard] = Whisper(model.root, threads=1).transcribe([clip.samples()], ASKED)
    assert heard.words
    assert heard.words[-1].end <= clip.duration_s


# ---- what it costs


def test_only_the_alignment_asks_for_it(sample: Pair) -> None:
    """A step fetches what it always did, and no node is added to the graph."""
    plain = run_pass("export_onnx", sample.source, sample.directory / "plain").artifact
    words = sample.made("ports")
    told = {port.name for port in words.components["decoder"].outputs} - {
        port.name for port in plain.components["decoder"].outputs
    }
    assert told == {"cross_query_1"}
    assert words.size("decoder") - plain.size("decoder") < 500
    assert "cross_query_1" not in sample.exported._backend._stepping  # type: ignore[attr-defined]


# ---- refusals


def test_heads_that_the_decoder_does_not_have_are_refused(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    state_heads(source, [[0, 1], [22, 3]])
    with pytest.raises(PocketOptError, match="names head 3 of layer 22") as caught:
        run_pass("export_onnx", source, tmp_path / "export", word_timestamps=True)
    assert "remove alignment_heads" in str(caught.value.fix)
    run_pass("export_onnx", source, tmp_path / "plain")
    with pytest.raises(RequestError, match="names head 3 of layer 22"):
        TransformersModel(source.root, threads=1).transcribe([sound(1, 0)], ASKED)


def test_a_model_that_was_built_without_is_asked_in_vain(sample: Pair) -> None:
    asked = DecodeOptions("en", word_timestamps=True)
    plain = run_pass("export_onnx", sample.source, sample.directory / "without").artifact
    one = run_pass("compose_all_in_one", plain, sample.directory / "one").artifact
    for model in (Whisper(plain.root), open_all_in_one(one)):
        for ask in (
            lambda m=model: m.transcribe([sound(1, 0)], asked),
            lambda m=model: list(m.stream(sound(1, 0), asked)),
        ):
            with pytest.raises(RequestError, match="build it with word_timestamps=true"):
                ask()


def open_all_in_one(model: Artifact) -> Whisper:
    from pocket_opt.models.whisper.runner.all_in_one import AllInOne

    return AllInOne(model.root)


# ---- the pieces


def test_without_stated_heads_all_of_the_last_half_of_the_layers() -> None:
    assert alignment_heads({}, 3, 2) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert alignment_heads({"alignment_heads": [[0, 1]]}, 3, 2) == [(0, 1)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 50), (9, 4), (20, 200)])
@pytest.mark.parametrize("levels", [2, 5, 10_000], ids=lambda levels: f"{levels}-levels")
def test_the_path_is_that_of_transformers(shape: tuple[int, int], levels: int) -> None:
    """Also where several ways cost the same, which few levels bring about."""
    costs = np.random.default_rng(0).integers(-levels, levels, shape) / levels
    rows, columns = _dynamic_time_warping(costs)
    assert warping_path(costs) == list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_frames_that_no_row_tells_apart_are_no_obstacle() -> None:
    weights = np.zeros((3, 30), np.float32)
    for row in range(3):
        weights[row, 10 * row : 10 * row + 8] = 1
    assert first_frames(iter([weights, np.ones_like(weights)])) == [0, 10, 20]


@pytest.mark.parametrize("frames", [3, 4, 5, 60])
def test_the_median_is_that_of_transformers(frames: int) -> None:
    weights = np.random.default_rng(frames).standard_normal((5, frames)).astype(np.float32)
    expected = _median_filter(torch.from_numpy(weights)[None], MEDIAN_WIDTH)[0].numpy()
    np.testing.assert_array_equal(smoothed(weights), expected)


@pytest.mark.parametrize("frames", [1, 3])
def test_hardly_any_sound(sample: Pair, frames: int) -> None:
    audio = sound(frames * FRAME_S, 0)
    for model in (sample.reference, sample.exported):
        [heard] = model.transcribe([audio], ASKED)
        assert all(0 <= word.start <= word.end <= frames * FRAME_S + 1e-6 for word in heard.words)
