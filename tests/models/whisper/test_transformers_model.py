"""The runner of level NONE: hears what is measured, reads audio as the other runner does, and says what it cannot do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner_fixtures import SAMPLE_RATE, sound, talkative_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner import command
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transformers_model import TransformersModel
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_checkpoint(tmp_path_factory.mktemp("source"), seed=6).root


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkative_checkpoint(tmp_path_factory.mktemp("english"), seed=1, multilingual=False).root


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Longer than two windows, the later ones of other sounds than the first."""
    path = tmp_path / "long.wav"
    audio = np.concatenate([sound(4, 0), sound(4, 1), sound(2, 2)])
    soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")
    return path


def call(directory: Path, *words: object) -> int:
    return command.main(directory, [*map(str, words), "--threads", "1"])


@pytest.mark.parametrize("words", [[], ["--timestamps"], ["--language", "<|DE|>", "--task", "translate"]])
def test_what_is_heard_is_what_is_measured(
    source: Path,
    clip: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(source, clip, "--json", *words) == 0
    heard = json.loads(capsys.readouterr().out)
    assert heard.pop("seconds") > 0
    options = DecodeOptions(
        "de" if "--language" in words else None,
        "translate" if "--task" in words else "transcribe",
        "--timestamps" in words,
    )
    runtime = open_runtime(Artifact.load(source), threads=1)
    [measured] = runtime.transcribe([read_audio(clip, SAMPLE_RATE)], options)
    expected = json.loads(json.dumps(asdict(measured)))
    assert heard == {"file": str(clip), **expected}
    assert heard["language"] in ("en", "de")
    assert heard["text"]


def test_the_language_is_detected_once(source: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TransformersModel(source, threads=1)
    detected, told = [], []
    detect, generate = model._model.detect_language, model._model.generate
    monkeypatch.setattr(model._model, "detect_language", lambda *given: detected.append(1) or detect(*given))
    monkeypatch.setattr(
        model._model,
        "generate",
        lambda *given, **options: told.append(options["language"]) or generate(*given, **options),
    )
    [heard] = model.transcribe([read_audio(clip, SAMPLE_RATE)])
    assert len(detected) == 1
    assert told == [[heard.language]]


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("source", ["--language", "xx"], "language 'xx': this model knows de, en"),
        ("english", ["--language", "de"], "language 'de': this model knows en"),
        ("english", ["--task", "translate"], "task 'translate': this model knows transcribe"),
        ("source", ["--threads", "-1"], "--threads must be 0 or more"),
    ],
)
def test_usage_errors(
    model: str,
    words: list[str],
    message: str,
    clip: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(request.getfixturevalue(model), [str(clip), *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_directory_without_a_model_is_a_usage_error(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(tmp_path, clip)
    assert caught.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_file_that_is_no_audio_does_not_stop_the_others(
    english: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip.parent / "broken.wav").write_bytes(bytes(500))
    assert call(english, clip.parent / "broken.wav", clip, "--language", "en") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{clip}: ")
    assert "broken.wav: cannot be read as wav, flac, ogg or mp3" in printed.err


def test_rows_of_a_state_are_picked(source: Path) -> None:
    model = TransformersModel(source, threads=1)
    features = model.features([sound(1, 0), sound(2, 1)])
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    rows, last = [1, 0, 1], np.array([[7], [8], [9]])
    _, state = model.decode(tokens, model.encode(features))
    found, _ = model.decode(last, model.select(state, rows))
    fresh = model.select(model.encode(features), rows)
    expected, _ = model.decode(np.concatenate([tokens[rows], last], axis=1), fresh)
    np.testing.assert_allclose(found[:, -1], expected[:, -1], atol=1e-4)
