"""White, pink and brown noise, and mixing at a stated signal-to-noise ratio."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]
# Power falls with frequency to the minus this exponent.
COLORS: Final = {"white": 0.0, "pink": 1.0, "brown": 2.0}
_LOWEST_HZ: Final = 40.0


def colored_noise(rng: np.random.Generator, samples: int, color: str, rate: int = 16_000) -> Audio:
    """Noise of unit RMS; the spectrum is flat below 40 Hz, so that brown noise stays bounded; [samples]."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1.0 / rate), _LOWEST_HZ)
    noise = np.fft.irfft(spectrum * hertz ** (-COLORS[color] / 2.0), samples)
    return np.asarray(noise / rms(noise), dtype=np.float32)


def rms(audio: NDArray[np.floating]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def noise_level(speech: Audio, snr_db: float) -> float:
    """The noise RMS that gives `snr_db` against the speech."""
    return rms(speech) * 10.0 ** (-snr_db / 20.0)
