"""The sample model on OpenVINO says what it says on ONNX Runtime, in every way of decoding; both in 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from exported_whisper import run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import Audio, DecodeOptions, SpeechRuntime

TEACHER = Path(__file__).parents[2] / "pocket_opt" / "sample" / "teacher"
BATCHES = (1, 3, 8)
SEARCHES = [
    DecodeOptions("en", beams=beams, timestamps=timestamps, length_penalty=penalty)
    for beams, timestamps, penalty in ((1, True, 1.0), (2, False, 1.0), (3, True, 0.6), (5, False, 1.4))
]


class Pair(NamedTuple):
    """The same weights in both runtimes."""

    onnxruntime: SpeechRuntime
    openvino: SpeechRuntime

    def agree(self, audio: list[Audio], options: DecodeOptions) -> None:
        expected, found = (runtime.transcribe(audio, options) for runtime in self)
        assert [heard.tokens for heard in found] == [heard.tokens for heard in expected]
        assert [heard.segments for heard in found] == [heard.segments for heard in expected]
        assert [heard.language for heard in found] == [heard.language for heard in expected]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """The pair by decoder and audio context, made when it is first asked for."""

    @cache
    def source() -> Artifact:
        step = load_pass("load_source")
        params = step.Params(path=str(TEACHER), digest="")
        return execute(step, {}, params, tmp_path_factory.mktemp("source")).artifact

    @cache
    def pair(decoder: str = "kv_cache", audio_context: str = "full") -> Pair:
        root = tmp_path_factory.mktemp("pair")
        onnx = run_pass(
            "export_onnx", source(), root / "onnx", decoder=decoder, audio_context=audio_context
        ).artifact
        converted = run_pass("convert_openvino", onnx, root / "openvino").artifact
        return Pair(open_runtime(onnx, threads=1), open_runtime(converted, threads=1))

    return pair


@pytest.mark.parametrize("options", SEARCHES, ids=str)
@pytest.mark.parametrize("batch", BATCHES[:2])
def test_beams(opened: Callable[..., Pair], batch: int, options: DecodeOptions) -> None:
    for audio in _batches(6, batch):
        opened().agree(audio, options)


def test_beams_without_a_cache(opened: Callable[..., Pair]) -> None:
    for audio in _batches(3, 3):
        opened("basic").agree(audio, DecodeOptions("en", beams=3))


@pytest.mark.parametrize("beams", [1, 4])
def test_a_shortened_audio_context(opened: Callable[..., Pair], beams: int) -> None:
    for audio in _batches(6, 3):
        opened(audio_context="auto").agree(
            [samples[: 9_000 * (row + 2)] for row, samples in enumerate(audio)], DecodeOptions(beams=beams)
        )


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions("en", fallback=None),
        DecodeOptions("en"),
        DecodeOptions("en", beams=2, condition_on_previous=True),
        DecodeOptions(),
    ],
    ids=str,
)
def test_audio_longer_than_a_window(opened: Callable[..., Pair], options: DecodeOptions) -> None:
    clips = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(6)]
    opened().agree([np.concatenate(clips), clips[0], np.concatenate(clips[:2])], options)


def test_a_segment_is_given_as_soon_as_its_window_is_decoded(opened: Callable[..., Pair]) -> None:
    clips = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(4)]
    expected, found = (
        list(runtime.stream(np.concatenate(clips), DecodeOptions("en"))) for runtime in opened()
    )
    assert found == expected
    assert len(found) > 1


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("batch", "beams", "task", "timestamps"),
    list(product(BATCHES, (1, 2, 3, 4, 5), ("transcribe", "translate"), (False, True))),
)
def test_every_clip(opened: Callable[..., Pair], batch: int, beams: int, task: str, timestamps: bool) -> None:
    for audio in _batches(None, batch):
        opened().agree(audio, DecodeOptions("en", task, timestamps, beams=beams))


@pytest.mark.nightly
def test_all_clips_as_one_recording(opened: Callable[..., Pair]) -> None:
    clips = [clip.samples() for clip in Dataset.open("sample:evaluation")]
    opened().agree([np.concatenate(clips)], DecodeOptions("en"))


def _batches(limit: int | None, size: int) -> Iterator[list[Audio]]:
    audio = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(limit)]
    for first in range(0, len(audio), size):
        yield audio[first : first + size]
