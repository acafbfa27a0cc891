"""Log-mel features of a whole recording from a front end that takes one window at a time.

Whisper clamps the range of a recording, not of a window: 8 decades (2 after scaling) below the highest value of all.
So windows are computed with an overlap, joined without the frames that a window's edge disturbs, and clamped together,
which gives what `WhisperFeatureExtractor` gives for the whole recording.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .audio import Floats

HALF, FIRST = 200, 2
"""Samples on either side of a frame's centre, and the first frame of a window that its beginning does not disturb."""
RANGE, AT_ONCE = 2.0, 8


def whole_features(front_end: Callable[[Floats], Floats], samples: Floats, window: int) -> Floats:
    """Features `[mels, frames]` of a recording `[samples]` longer than a window.

    Args:
        front_end: features `[batch, mels, frames]` of samples `[batch, window]`.
        window: samples of a window.
    """
    probe = front_end(samples[None, :window])
    size = probe.shape[2]
    hop, total = window // size, len(samples) * size // window
    kept = size - 1 - FIRST  # of a window that does not begin the recording; the last frame ends beyond it
    starts = [(first - FIRST) * hop for first in range(size - 1, total, kept)]
    padded = np.pad(samples, (0, HALF), mode="reflect")
    padded = np.pad(padded, (0, max(0, (starts[-1] if starts else 0) + window - len(padded))))
    parts = [probe[0, :, :-1]]
    for first in range(0, len(starts), AT_ONCE):
        windows = np.stack([padded[start : start + window] for start in starts[first : first + AT_ONCE]])
        parts += [row[:, FIRST:-1] for row in front_end(windows)]
    joined = np.concatenate(parts, axis=1)[:, :total]
    clamped: Floats = np.maximum(joined, joined.max() - np.float32(RANGE))
    return clamped
