"""Audio files as mono samples at the rate a model expects."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

# soundfile is imported where a file is read: resampling, --help and usage errors do without it.

Floats = np.ndarray[Any, np.dtype[np.float32]]
RATES = (1_000, 1_000_000)  # Hz that are taken for real


class AudioError(ValueError):
    """A file cannot be read as audio."""


def read_audio(path: Path, sample_rate: int) -> Floats:
    """Mono samples `[samples]` in -1..1 at `sample_rate` Hz of a wav, flac, ogg or mp3 file.

    Raises AudioError if it is missing, empty, damaged, cut short (mp3 cannot tell), or of a kind not read here.
    """
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path}: there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised = file.samplerate, file.frames
            if file.format == "MP3" or promised > 1 << 60:  # only estimated, or left open by a stream
                promised = 0
            # Otherwise soundfile seeks after every block, which fails at the end of a stream.
            file.seekable = lambda: False
            blocks = [np.zeros(0, np.float32)]
            while len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: cannot be read as wav, flac, ogg or mp3 ({error})") from error
    samples = np.concatenate(blocks)
    if len(samples) < promised:
        raise AudioError(f"{path}: damaged, only {len(samples)} of {promised} samples can be read")
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: damaged, or not speech: a rate of {rate} Hz")
    if not len(samples) or not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds {'values that are no numbers' if len(samples) else 'no samples'}")
    return resample(samples, rate, sample_rate)


def as_wave(samples: Floats, rate: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes `[44 + 4 samples]` of a WAV file with mono `[samples]` at `rate` Hz, as floats: nothing is rounded."""
    data = np.ascontiguousarray(samples, "<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", 4 + len(form) + 8 + len(data), b"WAVE")
    return np.frombuffer(head + form + struct.pack("<4sI", b"data", len(data)) + data, np.uint8)


def resample(samples: Floats, rate: int, wanted: int) -> Floats:
    """Band-limited resampling of `[samples]` to `[ceil(samples * wanted / rate)]`.

    Windowed sinc, see J. O. Smith, "Digital Audio Resampling Home Page", ccrma.stanford.edu/~jos/resample. Polyphase:
    output n lies at input n * rate / wanted, so outputs `wanted / gcd` apart share one filter.
    """
    if rate == wanted:
        return samples
    total = -(-len(samples) * wanted // rate)
    step = math.gcd(rate, wanted)
    down, up, half, filters = _filters(rate // step, wanted // step)
    groups = -(-total // up)
    padded = np.zeros((groups + 1) * down + 2 * half + 1, np.float32)
    padded[half : half + len(samples)] = samples
    result = np.empty((groups, up), np.float32)
    for first, start, matrix in filters:
        frames = np.lib.stride_tricks.sliding_window_view(padded[start:], len(matrix))[::down][:groups]
        result[:, first : first + matrix.shape[1]] = frames @ matrix
    return result.reshape(-1)[:total]


@lru_cache(maxsize=2)
def _filters(down: int, up: int) -> tuple[int, int, int, list[tuple[int, int, Floats]]]:
    """The filters for `up` outputs from `down` inputs (both enlarged to fill a block), and half their length.

    A block of neighbouring outputs is one matrix `[inputs, outputs]` with its first output and first input. Kaiser
    window of 64 zero crossings a side: 100 dB, pass band up to 0.9 of the lower Nyquist frequency.
    """
    block = 128
    down, up = down * -(-block // up), up * -(-block // up)
    cutoff = 0.95 * min(1.0, up / down)
    half, filters = math.ceil(64 / cutoff), []
    for first in range(0, up, block):
        centres = np.arange(first, min(first + block, up)) * (down / up)
        start = int(centres[0])
        distance = np.arange(start, int(centres[-1]) + 2 * half + 1)[:, None] - half - centres
        window = np.i0(10.06 * np.sqrt(np.maximum(1 - (distance / half) ** 2, 0))) / np.i0(10.06)
        kernel = np.where(np.abs(distance) < half, cutoff * np.sinc(cutoff * distance) * window, 0)
        filters.append((first, start, kernel.astype(np.float32)))
    return down, up, half, filters
