"""Reading and resampling: any rate, any number of channels, and one clear error for what is no audio."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from pocket_opt.data.audio import duration_s, needs_ffmpeg, read_audio
from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner.audio import resample

RATES = (8_000, 11_025, 22_050, 32_000, 44_100, 44_101, 48_000, 96_000)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_tone_keeps_frequency_phase_and_loudness(rate: int) -> None:
    for frequency in (100, 1_000, 3_400):
        heard = resample(tone(frequency, rate), rate, 16_000)
        expected = tone(frequency, 16_000, len(heard) / 16_000)
        assert len(heard) == 16_000
        np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=2e-5)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 18_000])
def test_tone_above_the_new_nyquist_frequency_is_removed(rate: int) -> None:
    heard = resample(tone(8_400, rate), rate, 16_000)
    assert np.abs(heard[400:-400]).max() < 1e-4


@pytest.mark.parametrize("rate", RATES)
def test_agrees_with_soxr_on_band_limited_noise(rate: int) -> None:
    noise = np.random.default_rng(0).standard_normal(6_000).astype(np.float32) * 0.1
    recording = soxr.resample(noise, 6_000, rate, quality="VHQ")
    ours, theirs = resample(recording, rate, 16_000), soxr.resample(recording, rate, 16_000, quality="VHQ")
    length = min(len(ours), len(theirs))
    np.testing.assert_allclose(ours[400 : length - 400], theirs[400 : length - 400], atol=2e-4)


@pytest.mark.parametrize("samples", [0, 1, 7, 500])
def test_resampling_short_audio(samples: int) -> None:
    heard = resample(np.ones(samples, np.float32), 44_100, 16_000)
    assert len(heard) == -(-samples * 16_000 // 44_100)
    assert np.isfinite(heard).all()


def test_same_rate_is_left_alone() -> None:
    audio = tone(440, 16_000)
    assert resample(audio, 16_000, 16_000) is audio


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_channels_and_rates(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    left, right = tone(440, 44_100), tone(660, 44_100)
    soundfile.write(path, 0.4 * np.stack([left, right], axis=1), 44_100)
    heard = read_audio(path)
    expected = 0.2 * (tone(440, 16_000) + tone(660, 16_000))
    assert heard.dtype == np.float32
    assert heard.ndim == 1
    assert abs(len(heard) - 16_000) <= (0 if suffix in ("wav", "flac") else 1_200)
    if suffix in ("wav", "flac"):
        np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=1e-4)
    else:
        assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(expected**2)), rel=0.1)
    assert duration_s(path) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 7), ("PCM_24", 20), ("FLOAT", 20)])
def test_sample_formats(tmp_path: Path, subtype: str, bits: int) -> None:
    audio = 0.5 * tone(440, 16_000)
    soundfile.write(tmp_path / "clip.wav", audio, 16_000, subtype=subtype)
    np.testing.assert_allclose(read_audio(tmp_path / "clip.wav"), audio, atol=2.0**-bits)


def broken_files(directory: Path) -> dict[str, Path]:
    (directory / "noise.wav").write_bytes(bytes(range(256)) * 40)
    (directory / "nothing.wav").write_bytes(b"")
    soundfile.write(directory / "rate.wav", tone(440, 16_000), 2_000_000_011)
    (directory / "text.mp3").write_text("this is no audio")
    soundfile.write(directory / "empty.wav", np.zeros(0, np.float32), 16_000)
    soundfile.write(directory / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(directory / "cut.flac", tone(440, 16_000, 3), 16_000)
    whole = (directory / "cut.flac").read_bytes()
    (directory / "cut.flac").write_bytes(whole[: len(whole) // 2])
    return {path.stem: path for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["noise", "nothing", "text", "empty", "nan", "cut", "rate"])
def test_what_is_no_audio_is_one_clear_error(tmp_path: Path, name: str) -> None:
    path = broken_files(tmp_path)[name]
    with pytest.raises(UserError, match=path.name) as caught:
        read_audio(path)
    assert "next:" in str(caught.value)


def streamed_flac(path: Path, samples: np.ndarray) -> Path:
    """A FLAC file as an encoder writes it that cannot seek back: it states no number of samples."""
    soundfile.write(path, samples, 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits in the STREAMINFO block
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return path


def test_a_streamed_flac_is_read_to_its_end(tmp_path: Path) -> None:
    path = streamed_flac(tmp_path / "streamed.flac", 0.5 * tone(440, 16_000, 30))
    assert soundfile.info(path).frames > 1 << 60
    np.testing.assert_allclose(read_audio(path), 0.5 * tone(440, 16_000, 30), atol=1e-4)
    assert duration_s(path) == 30


def test_the_length_of_an_mp3_without_its_table_is_an_estimate(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp3"
    noise = 0.1 * np.random.default_rng(0).standard_normal(48_000 * 5) * np.linspace(0, 1, 48_000 * 5) ** 4
    soundfile.write(path, noise, 48_000, subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    content = path.read_bytes()
    path.write_bytes(content[content.index(content[:2], 10) :])  # the first frame holds the table (Xing)
    assert soundfile.info(path).frames > 2 * len(noise)
    assert len(read_audio(path)) == pytest.approx(5 * 16_000, rel=0.02)


@pytest.mark.parametrize("name", ["noise", "nothing", "text", "empty"])
def test_header_tells_what_is_no_audio(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=name):
        duration_s(broken_files(tmp_path)[name])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_audio(tmp_path / "absent.wav")


@pytest.mark.parametrize("read", [read_audio, duration_s])
def test_aac_without_ffmpeg_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object) -> None:
    (tmp_path / "clip.m4a").write_bytes(b"x")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"ff(mpeg|probe)") as caught:
        read(tmp_path / "clip.m4a")  # type: ignore[operator]
    assert "install ffmpeg" in str(caught.value)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_aac_with_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", 0.5 * tone(440, 44_100, 2), 44_100)
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "clip.wav", "-c:a", "aac", tmp_path / "clip.m4a"],
        check=True,
    )
    heard = read_audio(tmp_path / "clip.m4a")
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * 16_000 / len(heard) == pytest.approx(440, abs=2)
    assert duration_s(tmp_path / "clip.m4a") == pytest.approx(2, abs=0.1)
    assert needs_ffmpeg(tmp_path / "clip.M4A")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("read", [read_audio, duration_s])
def test_damaged_aac(tmp_path: Path, read: object) -> None:
    (tmp_path / "clip.m4a").write_bytes(bytes(500))
    with pytest.raises(UserError, match=r"clip\.m4a"):
        read(tmp_path / "clip.m4a")  # type: ignore[operator]
