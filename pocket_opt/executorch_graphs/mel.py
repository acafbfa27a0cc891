"""The log-mel front end as a module, equal to `WhisperFeatureExtractor` within 1e-4; see `whisper/mel_graph.py`.

The transform is a product of overlapping frames with a basis that is computed at each call from two counts: stored, it
would be 640 kB, which is more than the whole sample model at 4 bits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, WhisperDims
from pocket_opt.models.whisper.mel_graph import BINS, FLOOR, HOP, N_FFT, mel_edges


class Mel(nn.Module):
    """`audio` `[1, samples]` of one window (mono, 16 kHz, padded with zeros) to `features` `[1, mels, frames]`."""

    def __init__(self, dims: WhisperDims) -> None:
        super().__init__()
        self.frames = dims.frames
        self.register_buffer("time", torch.arange(N_FFT, dtype=torch.float32).view(1, N_FFT, 1))
        self.register_buffer("rows", torch.arange(BINS, dtype=torch.float32).view(1, 1, BINS))
        edges = mel_edges(dims.mels)
        widths = np.diff(edges)
        for name, values in {
            "lower": edges[:-2],
            "upper": edges[2:],
            "rise": 1 / widths[:-1],
            "fall": 1 / widths[1:],
            "area": 2 / (edges[2:] - edges[:-2]),
        }.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 1, -1))
        hertz = torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1) * (SAMPLE_RATE / N_FFT)
        self.register_buffer("hertz", hertz)

    def forward(self, audio: Tensor) -> Tensor:
        """Log-mel features."""
        cosines, sines = self._basis()
        frames = self._frames(audio)
        real, imaginary = torch.bmm(frames, cosines), torch.bmm(frames, sines)
        energies = torch.bmm(real * real + imaginary * imaginary, self._filters())
        log = torch.log(torch.clamp(energies, min=FLOOR)) * (1 / math.log(10))
        lowest = torch.amax(log, (1, 2), keepdim=True) - 8.0
        return ((torch.maximum(log, lowest) + 4.0) * 0.25).transpose(1, 2)

    def _frames(self, audio: Tensor) -> Tensor:
        """Overlapping frames `[1, frames, N_FFT]`, reflected at both ends; the transform's last frame is left out."""
        half, length = N_FFT // 2, audio.shape[1]
        before, after = (
            audio[:, 1 : half + 1].flip(1),
            audio[:, length - 1 - (half - HOP) : length - 1].flip(1),
        )
        filler = audio.new_zeros(1, 3 * HOP - N_FFT)
        rows = torch.cat([before, audio, after, filler], 1).view(1, self.frames + 2, HOP)
        parts = [rows[:, place : place + self.frames] for place in range(3)]
        parts[2] = parts[2][:, :, : N_FFT - 2 * HOP]
        return torch.cat(parts, 2)

    def _basis(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[1, N_FFT, BINS]` under a periodic Hann window; angles are reduced exactly."""
        product = self.time * self.rows
        turns = product - torch.floor(product / N_FFT) * N_FFT
        step = 2 * math.pi / N_FFT
        window = 0.5 - 0.5 * torch.cos(self.time * step)
        return torch.cos(turns * step) * window, torch.sin(turns * step) * window

    def _filters(self) -> Tensor:
        """Triangles `[1, BINS, mels]` on Slaney's scale, normalised to unit area."""
        up, down = (self.hertz - self.lower) * self.rise, (self.upper - self.hertz) * self.fall
        return torch.clamp(torch.minimum(up, down), min=0.0) * self.area
