"""Whisper's log-mel features for a batch of waveforms in torch, with optional vocal-tract-length warping.

Without warping the result equals `WhisperFeatureExtractor` (checked by `max_difference`), so a model trained
on these features reads the extractor's output.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

WINDOW_S: Final = 4
SAMPLE_RATE: Final = 16_000
WINDOW_SAMPLES: Final = WINDOW_S * SAMPLE_RATE
MEL_BINS: Final = 80
_FFT: Final = 400
_HOP: Final = 160
_DYNAMIC_RANGE: Final = 8.0


def feature_extractor() -> WhisperFeatureExtractor:
    """The extractor that ships with the model: 80 bins, 400 frames."""
    return WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=WINDOW_S)


class LogMel:
    """Waveforms [batch, 64000] to features [batch, 80, 400]."""

    def __init__(self, warps: tuple[float, ...] = (1.0,)) -> None:
        """`warps` stretch the frequency axis; 1.0 must be among them."""
        filters = torch.tensor(np.asarray(feature_extractor().mel_filters), dtype=torch.float32).T
        self._filters = torch.stack([_warped(filters, warp) for warp in warps])
        self._plain = warps.index(1.0)
        self._window = torch.hann_window(_FFT)

    def __call__(self, waves: torch.Tensor, warp: torch.Tensor | None = None) -> torch.Tensor:
        """Features; `warp` [batch] indexes the warps given at construction."""
        spectrum = torch.stft(waves, _FFT, _HOP, window=self._window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        if warp is None:
            warp = torch.full((len(waves),), self._plain)
        log = torch.bmm(self._filters[warp], power).clamp_(min=1e-10).log10_()
        floor = log.amax(dim=(1, 2), keepdim=True) - _DYNAMIC_RANGE
        return (torch.maximum(log, floor) + 4.0) / 4.0

    @property
    def warp_count(self) -> int:
        """How many warps there are to choose from."""
        return len(self._filters)


def _warped(filters: torch.Tensor, warp: float) -> torch.Tensor:
    """Mel filters [bins, frequencies] read at `warp` times their frequency."""
    positions = torch.arange(filters.shape[1], dtype=torch.float32) * warp
    below = positions.floor().long().clamp(max=filters.shape[1] - 2)
    part = (positions - below).clamp(max=1.0)
    return filters[:, below] * (1.0 - part) + filters[:, below + 1] * part


def max_difference(wave: np.ndarray) -> float:
    """Largest difference between this module and the extractor on one waveform of up to 4 s."""
    padded = np.zeros((1, WINDOW_SAMPLES), dtype=np.float32)
    padded[0, : len(wave)] = wave
    expected = feature_extractor()(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    return float((LogMel()(torch.from_numpy(padded)) - expected).abs().max())
