"""ExecuTorch: the tokens of ONNX Runtime, states that keep decodings apart, and what is said when a program is bad."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executorch_programs import checkpoint, lowered
from exported_whisper import run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.mel import Mel
from pocket_opt.models.whisper.checkpoint import open_checkpoint
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime
from pocket_opt.runtimes.executorch import probe
from pocket_opt.worker import silent

Tokens = np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechRuntime, SpeechRuntime]:
    """The same weights in ONNX Runtime and in ExecuTorch."""
    onnx = run_pass("export_onnx", checkpoint(), tmp_path_factory.mktemp("onnx")).artifact
    return open_runtime(onnx, threads=1), open_runtime(lowered().artifact, threads=1)


def test_features_and_hidden_states_are_those_of_onnx_runtime(
    both: tuple[SpeechRuntime, SpeechRuntime],
) -> None:
    clips = [_noise(0), _noise(1)[:5_000]]
    expected, found = (runtime.features(clips) for runtime in both)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    expected, found = (runtime.encoder_hidden(runtime.encode(expected)) for runtime in both)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_are_those_of_onnx_runtime(both: tuple[SpeechRuntime, SpeechRuntime], beams: int) -> None:
    options = DecodeOptions("de", timestamps=True, beams=beams, max_new_tokens=12)
    clips = [_noise(2), _noise(3)]
    expected, found = ([heard.tokens for heard in one.transcribe(clips, options)] for one in both)
    assert found == expected


@pytest.mark.parametrize("length", [1, 3, 4, 6])
def test_a_prompt_goes_through_prefill_or_through_the_decoder(tmp_path: Path, length: int) -> None:
    artifact = lowered().artifact
    assert {"prefill", "decoder"} < set(artifact.components)
    shutil.copytree(artifact.root, tmp_path / "old", copy_function=shutil.copyfile)
    parts = {name: part for name, part in artifact.components.items() if name != "prefill"}
    old = open_runtime(Artifact(tmp_path / "old", parts, artifact.metadata).save(), threads=1)
    new, tokens = open_runtime(artifact, threads=1), _tokens(1, length, 1)
    features, answers = new.features([_noise(0)]), []
    for runtime in (old, new):
        first, state = runtime.decode(tokens, runtime.encode(features))
        second, _ = runtime.decode(_tokens(1, 1, 2), state)
        answers.append(np.concatenate([first, second], axis=1))
    np.testing.assert_allclose(*answers, atol=1e-4)


def test_audio_longer_than_a_window_is_read_in_windows(both: tuple[SpeechRuntime, SpeechRuntime]) -> None:
    options = DecodeOptions("en", max_new_tokens=6)
    clip = np.concatenate([_noise(4), _noise(5), _noise(6)])
    expected, found = (one.transcribe([clip], options)[0].tokens for one in both)
    assert found == expected


def test_several_decodings_may_start_from_one_state(both: tuple[SpeechRuntime, SpeechRuntime]) -> None:
    answers = []
    for runtime in both:
        state = runtime.encode(runtime.features([_noise(0), _noise(1)]))
        _, one = runtime.decode(_tokens(2, 3, 1), state)
        _, two = runtime.decode(_tokens(2, 5, 2), state)
        two = runtime.select(two, [1, 1, 0])
        first, one = runtime.decode(_tokens(2, 1, 3), one)
        second, _ = runtime.decode(_tokens(3, 1, 4), two)
        answers.append((first, second))
    for expected, found in zip(*answers, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_front_end_knows_any_number_of_mels() -> None:
    dims = replace(open_checkpoint(checkpoint().root).dims, mels=128)
    features = Mel(dims)(torch.from_numpy(0.1 * np.ones((1, dims.samples), np.float32)))
    assert features.shape == (1, 128, dims.frames)


def test_word_timestamps_are_refused(both: tuple[SpeechRuntime, SpeechRuntime]) -> None:
    with pytest.raises(UserError, match="word_timestamps"):
        both[1].transcribe([_noise(0)], DecodeOptions("en", word_timestamps=True))


def test_a_truncated_program_is_told_with_the_runtimes_own_words(tmp_path: Path) -> None:
    artifact = _copied(tmp_path)
    path = artifact.path("mel")
    path.write_bytes(path.read_bytes()[:-5_000])
    with pytest.raises(PocketOptError, match=r"(?s)damaged.*File size is too small"):
        open_runtime(artifact)


def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    artifact = _copied(tmp_path)
    artifact.path("mel").write_bytes(b"x" * 10_000)
    with pytest.raises(PocketOptError, match=r"(?s)no ExecuTorch program.*identifier"):
        open_runtime(artifact)


def test_a_missing_delegate_is_named(tmp_path: Path) -> None:
    artifact = _copied(tmp_path)
    path = artifact.path("mel")
    data = path.read_bytes()
    assert b"XnnpackBackend" in data
    path.write_bytes(data.replace(b"XnnpackBackend", b"XenonackBacken"))
    with pytest.raises(PocketOptError, match=r"(?s)delegate.*XenonackBacken"):
        open_runtime(artifact)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    artifact = _copied(tmp_path)
    artifact.path("mel").unlink()
    with pytest.raises(PocketOptError, match="missing"):
        open_runtime(artifact)


def test_without_executorch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    hidden = "pocket_opt.runtimes.executorch.find_spec"
    monkeypatch.setattr(hidden, lambda name: None if name == "executorch" else found(name))
    with pytest.raises(UserError, match=r"(?s)ExecuTorch, which is not installed.*pocket_opt\[executorch\]"):
        open_runtime(lowered().artifact)


def test_the_probe_runs_an_operator() -> None:
    assert probe({}, silent).startswith("Linear in 1 XNNPACK part, executorch 1.5")


def _copied(folder: Path) -> Artifact:
    source = lowered().artifact
    shutil.copytree(source.root, folder / "model")
    for path in (folder / "model").iterdir():
        path.chmod(0o644)
    return Artifact(folder / "model", source.components, source.metadata).save()


def _noise(kind: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return 0.1 * np.random.default_rng(kind).standard_normal(32_000).astype(np.float32)


def _tokens(batch: int, length: int, seed: int) -> Tokens:
    return np.random.default_rng(seed).integers(0, 500, (batch, length))
