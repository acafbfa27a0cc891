"""The lite interpreter: the tokens of ONNX Runtime, with the loop outside and inside, and what a bad program says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executorch_programs import checkpoint
from exported_whisper import run_pass
from torchscript_programs import written

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.whisper.runner.opening import open_model
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime
from pocket_opt.runtimes.torchscript import probe
from pocket_opt.worker import silent


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> SpeechRuntime:
    """The same weights in ONNX Runtime."""
    return open_runtime(
        run_pass("export_onnx", checkpoint(), tmp_path_factory.mktemp("onnx")).artifact, threads=1
    )


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions("de", max_new_tokens=12),
        DecodeOptions("de", timestamps=True, max_new_tokens=12),
        DecodeOptions(max_new_tokens=12),
    ],
    ids=["words", "times", "language"],
)
@pytest.mark.parametrize("loop", [False, True], ids=["steps", "loop"])
def test_transcripts_are_those_of_onnx_runtime(
    reference: SpeechRuntime, loop: bool, options: DecodeOptions
) -> None:
    clips = [_noise(0), _noise(1)[:5_000]]
    runtime = open_runtime(written(loop=loop).artifact, threads=1)
    expected, found = (one.transcribe(clips, options) for one in (reference, runtime))
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.language for one in found] == [one.language for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-3)


def test_a_beam_search_goes_on_outside(reference: SpeechRuntime) -> None:
    options = DecodeOptions("de", beams=3, max_new_tokens=8)
    runtime = open_runtime(written().artifact, threads=1)
    expected, found = (one.transcribe([_noise(2)], options)[0].tokens for one in (reference, runtime))
    assert found == expected


def test_a_loop_inside_knows_no_search() -> None:
    with pytest.raises(UserError, match="decodes greedily"):
        open_runtime(written(loop=True).artifact).transcribe([_noise(0)], DecodeOptions("en", beams=2))


def test_longer_audio_is_read_by_windows_and_a_forced_number_of_tokens_is_kept() -> None:
    runtime = open_runtime(written(loop=True).artifact, threads=1)
    clip = np.concatenate([_noise(3), _noise(4), _noise(5)])
    [heard] = runtime.transcribe([clip], DecodeOptions("en", max_new_tokens=6))
    assert len(heard.tokens) > 6
    tokens: list[int] = []
    runtime.vocabulary.text = lambda given: str(tokens.extend(given))  # type: ignore[attr-defined]
    runtime.hear([_noise(0)], DecodeOptions(), new_tokens=5)  # type: ignore[attr-defined]
    assert len(tokens) == 5


@pytest.mark.parametrize("loop", [False, True])
def test_the_runner_of_bundles_opens_it(loop: bool) -> None:
    assert open_model(written(loop=loop).artifact.root).transcribe(
        [_noise(0)], DecodeOptions("en", max_new_tokens=2)
    )


@pytest.mark.parametrize("change", ["truncated", "another file", "missing"])
def test_a_bad_program_is_told(change: str, tmp_path: Path) -> None:
    shutil.copytree(written().artifact.root, tmp_path / "model")
    artifact = Artifact.load(tmp_path / "model")
    path = artifact.path("decoder")
    content = path.read_bytes()
    path.unlink()
    if change != "missing":
        path.write_bytes(content[:-5_000] if change == "truncated" else b"x" * 10_000)
    with pytest.raises(
        PocketOptError, match="missing" if change == "missing" else "(?s)damaged.*build the model again"
    ):
        open_runtime(artifact)


def test_the_probe_runs_an_operator() -> None:
    assert probe({}, silent).startswith("Linear in the lite interpreter, torch 2.")


def _noise(kind: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return 0.1 * np.random.default_rng(kind).standard_normal(32_000).astype(np.float32)
