"""A loaded bundle: text at once, awaited, and segment by segment; and the runner of the source model."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from real_bundles import onnx_bundle, source_bundle
from runner_fixtures import sound

from pocket_opt.bundle.loaded import LoadedModel
from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner.audio import resample

CLIP = Path(__file__).parents[2] / "pocket_opt/sample/evaluation/en-clean-000.flac"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return LoadedModel(onnx_bundle().path)


def test_the_three_forms_agree(model: LoadedModel) -> None:
    options = {"language": "en", "max_new_tokens": 12}
    pending = model.transcribe(CLIP, **options)  # type: ignore[arg-type]
    streamed = list(pending)
    awaited = asyncio.run(_wait(model, options))
    assert pending.text == awaited.text == str(pending) == " ".join(part.text for part in streamed)
    assert pending.tokens == awaited.tokens
    assert pending.segments == tuple(streamed) == tuple(pending)
    assert (pending.language, pending.result) == ("en", awaited)


async def _wait(model: LoadedModel, options: dict[str, object]) -> object:
    return await model.transcribe(CLIP, **options)  # type: ignore[arg-type]


def test_segments_of_long_audio_come_window_by_window(model: LoadedModel) -> None:
    audio = np.concatenate([sound(4, 0), sound(4, 1), sound(2, 2)])
    opened, encoded = model.runtime, []
    encode = opened.encode
    opened.encode = lambda features: encoded.append(features) or encode(features)  # type: ignore[method-assign]
    try:
        stream = iter(model.transcribe(audio, max_new_tokens=12, fallback=False))
        first = next(stream)
        assert len(encoded) == 1
        parts = [first, *stream]
        assert len(encoded) > 2
    finally:
        opened.encode = encode  # type: ignore[method-assign]
    assert tuple(parts) == model.transcribe(audio, max_new_tokens=12, fallback=False).segments
    assert parts[-1].start >= 4


def test_audio_may_be_a_file_or_samples_at_any_rate(model: LoadedModel, tmp_path: Path) -> None:
    import soundfile

    audio = sound(3, 1)
    soundfile.write(tmp_path / "x.wav", audio, 16_000, subtype="FLOAT")
    by_file = model.transcribe(str(tmp_path / "x.wav"), language="en", max_new_tokens=8)
    assert by_file.tokens == model.transcribe(audio, language="en", max_new_tokens=8).tokens
    slow = model.transcribe(audio, language="en", max_new_tokens=8, sample_rate=8_000)
    assert len(list(slow)) == 2


def test_what_is_no_audio_is_refused(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        model.transcribe(tmp_path / "absent.wav")
    with pytest.raises(UserError, match=r"an array of shape \(2, 100\)"):
        _ = model.transcribe(np.zeros((2, 100), np.float32)).text
    with pytest.raises(UserError, match="not finite"):
        _ = model.transcribe(np.full(100, np.nan, np.float32)).text
    with pytest.raises(UserError, match="language 'xx'"):
        _ = model.transcribe(CLIP, language="xx").text
    with pytest.raises(UserError, match="beams 6: a number from 1 to 5"):
        model.transcribe(CLIP, beams=6)
    with pytest.raises(UserError, match="is no bundle"):
        LoadedModel(tmp_path)


def test_the_model_is_opened_at_the_first_use_and_kept() -> None:
    fresh = LoadedModel(str(onnx_bundle().path))
    assert fresh._opened is None
    assert fresh.runtime is fresh.runtime


def test_the_source_model_runs_through_the_same_door_and_by_its_own_runner(tmp_path: Path) -> None:
    place = tmp_path / "moved here"
    shutil.copytree(source_bundle().path, place)
    expected = LoadedModel(place).transcribe(CLIP, language="en", timestamps=True, word_timestamps=True)
    options = ["--language", "en", "--timestamps", "--word-timestamps", "--json"]
    command = [sys.executable, "-I", str(place / "run.py"), *options, str(CLIP)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard["file"] == str(CLIP)
    words = [word for part in heard["segments"] for word in part.pop("words")]
    assert words == [pytest.approx(asdict(word), abs=0.021) for word in expected.words]
    segments = [asdict(replace(part, words=())) for part in expected.segments]
    assert [{**part, "words": ()} for part in heard["segments"]] == [
        {
            **part,
            "start": pytest.approx(part["start"], abs=0.021),
            "end": pytest.approx(part["end"], abs=0.021),
        }
        for part in segments
    ]


def test_the_onnx_runner_works_after_the_bundle_was_moved(tmp_path: Path) -> None:
    place = tmp_path / "moved here"
    shutil.copytree(onnx_bundle().path, place)
    command = [sys.executable, "-I", str(place / "run.py"), "--language", "en", "--beams", "3", str(CLIP)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == LoadedModel(place).transcribe(CLIP, language="en", beams=3).text
    refused = subprocess.run([*command, "--beams", "9"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "beams 9: a number from 1 to 5" in refused.stderr


def test_resampling_keeps_a_tone() -> None:
    time = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    heard = resample(tone, 44_100, 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert heard.shape == (16_000,)
    assert np.abs(heard - expected)[100:-100].max() < 1e-3
    assert resample(tone, 44_100, 44_100) is tone
