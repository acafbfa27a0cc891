"""Audio files as mono samples: the reader of the stand-alone runner, and ffmpeg for what libsndfile cannot read.

One implementation of reading, mixing down and resampling serves measurements and bundles, so both hear the same.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.errors import UserError
from pocket_opt.scratch import scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz. Every Whisper model was trained at this rate (Radford et al. 2022, section 2.2)."""
LEAST_SAMPLE_RATE = 8_000
"""Hz. Below telephone quality consonants are gone, and what was measured on such clips holds for no others."""
LONGEST = 1 << 60
"""Samples; a header that states more was written before anybody knew how many there would be."""
FFMPEG_SUFFIXES = frozenset({".aac", ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".wma", ".amr"})
"""Files that libsndfile does not read: AAC and its containers, and relatives."""


def read_audio(path: Path, *, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Mono samples `[samples]` in -1..1 of a wav, flac, ogg or mp3 file, or with ffmpeg of an AAC file.

    Raises:
        UserError: the file is missing, empty, damaged, or needs ffmpeg, which is not installed.
    """
    from pocket_opt.models.whisper.runner import audio

    try:
        if not needs_ffmpeg(path):
            return audio.read_audio(path, sample_rate)
        with scratch("audio") as folder:
            return audio.read_audio(_decode(path, folder / "decoded.wav"), sample_rate)
    except audio.AudioError as error:
        raise UserError(str(error), fix="replace the file, or convert it to 16-bit wav or flac") from None


def duration_s(path: Path) -> float:
    """Seconds of audio that the header of `path` promises; reads samples only where a stream left that open.

    Raises:
        UserError: the header cannot be read, it promises no audio, or ffmpeg is needed and not installed.
    """
    import soundfile

    if needs_ffmpeg(path):
        return _probe(path)
    try:
        header = soundfile.info(str(path))
    except soundfile.SoundFileError as error:
        raise UserError(
            f"{path.name} cannot be read as wav, flac, ogg or mp3 ({error})",
            where=str(path),
            fix="replace the file, or convert it to 16-bit wav or flac",
        ) from None
    if not header.frames:
        raise UserError(f"{path.name} holds no samples", where=str(path), fix="remove it from the list")
    if header.frames > LONGEST:
        return len(read_audio(path)) / SAMPLE_RATE
    return float(header.duration)


def require_speech_rate(path: Path) -> None:
    """Raise UserError for a file sampled below `LEAST_SAMPLE_RATE`; any other rate is resampled."""
    import soundfile

    if needs_ffmpeg(path):
        return
    rate = soundfile.info(str(path)).samplerate
    if rate < LEAST_SAMPLE_RATE:
        raise UserError(
            f"{path.name} was sampled at {rate} Hz, which holds no intelligible speech",
            where=str(path),
            allowed=f"{LEAST_SAMPLE_RATE} Hz or more, best {SAMPLE_RATE} Hz; all is resampled to {SAMPLE_RATE} Hz",
            fix="replace the clip, correct the rate in its header, or remove it from the list",
        )


def needs_ffmpeg(path: Path) -> bool:
    """Whether `path` is of a kind that only ffmpeg reads, going by its name."""
    return path.suffix.lower() in FFMPEG_SUFFIXES


def _decode(path: Path, decoded: Path) -> Path:
    """Let ffmpeg write `path` as a float wav file at its own rate."""
    options = ("-v", "error", "-nostdin", "-i", str(path), "-vn", "-c:a", "pcm_f32le", str(decoded))
    _call("ffmpeg", path, *options)
    return decoded


def _probe(path: Path) -> float:
    options = ("-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path))
    found = _call("ffprobe", path, *options)
    try:
        return float(found)
    except ValueError:
        raise UserError(f"ffprobe finds no audio in {path.name}", where=str(path), fix="replace it") from None


def _call(program: str, path: Path, *options: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise UserError(
            f"{path.name} needs {program} to be read, which is not installed",
            where=str(path),
            allowed="wav, flac, ogg and mp3 without ffmpeg",
            fix="install ffmpeg, or convert the file to wav or flac",
        )
    done = subprocess.run([found, *options], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"{program} cannot read {path.name}: {reason}", where=str(path), fix="replace the file"
        )
    return done.stdout.strip()
