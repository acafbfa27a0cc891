"""The exported sample model gives the tokens of transformers' `generate`, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime

TEACHER = Path(__file__).parents[2] / "pocket_opt" / "sample" / "teacher"
ASKED = list(product((1, 3), ("en", "de"), ("transcribe", "translate"), (False, True)))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SpeechRuntime]:
    """NONE and BASIC of the sample model, opened."""
    made: dict[str, Artifact] = {}
    inputs: dict[str, Artifact] = {}
    chain = {"load_source": {"path": str(TEACHER), "digest": ""}, "export_onnx": {}, "fuse": {}}
    for name, params in chain.items():
        step = load_pass(name)
        workdir = tmp_path_factory.mktemp(name)
        made[name] = execute(step, inputs, step.Params(**params), workdir).artifact
        inputs = {"model": made[name]}
    runtimes = {"NONE": open_runtime(made["load_source"]), "BASIC": open_runtime(made["fuse"])}
    return runtimes.__getitem__


@pytest.mark.parametrize(("batch", "language", "task", "timestamps"), ASKED)
def test_twelve_clips(
    opened: Callable[[str], SpeechRuntime], batch: int, language: str, task: str, timestamps: bool
) -> None:
    _compare(opened, 12, batch, DecodeOptions(language, task, timestamps))


@pytest.mark.parametrize(("batch", "beams", "timestamps"), [(1, 2, True), (3, 5, False), (3, 3, True)])
def test_beams(opened: Callable[[str], SpeechRuntime], batch: int, beams: int, timestamps: bool) -> None:
    _compare(opened, 6, batch, DecodeOptions("en", timestamps=timestamps, beams=beams, length_penalty=0.6))


@pytest.mark.nightly
@pytest.mark.parametrize(("batch", "language", "task", "timestamps"), ASKED)
@pytest.mark.parametrize("beams", [2, 5])
def test_beams_on_every_clip(
    opened: Callable[[str], SpeechRuntime], batch: int, language: str, task: str, timestamps: bool, beams: int
) -> None:
    _compare(opened, None, batch, DecodeOptions(language, task, timestamps, beams=beams))


@pytest.mark.nightly
@pytest.mark.parametrize(("batch", "language", "task", "timestamps"), ASKED)
def test_every_clip(
    opened: Callable[[str], SpeechRuntime], batch: int, language: str, task: str, timestamps: bool
) -> None:
    _compare(opened, None, batch, DecodeOptions(language, task, timestamps))


def _compare(
    opened: Callable[[str], SpeechRuntime], limit: int | None, batch: int, options: DecodeOptions
) -> None:
    audio = [clip.samples() for clip in Dataset.open("sample:evaluation").limit(limit)]
    for first in range(0, len(audio), batch):
        clips = audio[first : first + batch]
        expected, found = (
            [heard.tokens for heard in opened(level).transcribe(clips, options)]
            for level in ("NONE", "BASIC")
        )
        assert found == expected, f"clips from {first}"
