"""What a Whisper hears and says on calibration clips: real inputs of its encoder and of its decoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocket_opt.runtimes.base import DecodeOptions

if TYPE_CHECKING:
    from pocket_opt.data.dataset import Clip
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.base import Floats, SpeechRuntime, Tokens


@dataclass(frozen=True)
class Heard:
    """One clip: log-mel `[1, mels, frames]`, and the tokens `[1, length]` that greedy decoding fed to the decoder."""

    features: Floats
    tokens: Tokens


def hear(source: SpeechRuntime, clips: Iterable[Clip], total: int, progress: Progress) -> list[Heard]:
    """Decode the first window of each of `total` clips with the source model, in the clip's language if it knows it."""
    heard = []
    for clip in clips:
        audio = clip.samples(source.sample_rate)[: round(source.window_s * source.sample_rate)]
        said = source.transcribe([audio], DecodeOptions(language=_known(source, clip.language)))[0]
        prompt = source.prompt(DecodeOptions(language=said.language))
        heard.append(Heard(source.features([audio]), np.array([[*prompt, *said.tokens]], np.int64)))
        progress(len(heard), total, "clips heard")
    return heard


def _known(source: SpeechRuntime, language: str | None) -> str | None:
    try:
        source.prompt(DecodeOptions(language=language))
    except ValueError:
        return None
    return language
