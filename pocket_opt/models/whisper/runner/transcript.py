"""What can be asked of a model, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

TASKS = ("transcribe", "translate")
BEAMS = (1, 5)
"""Fewest and most beams. A sixth changes next to nothing and costs as much as each before it."""


class RequestError(ValueError):
    """What was asked for cannot be had: a language, a task, a number of beams, or a directory without a model."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        language: code of the spoken language ("de" or "<|de|>"); None: detect it for each clip.
        task: "transcribe", or "translate" (to English).
        timestamps: predict the times of segments.
        max_new_tokens: most tokens to generate a window; None: what the model's generation configuration says.
        beams: sequences followed side by side, 1 to 5; 1 is greedy decoding.
        length_penalty: a sequence of the beam search is worth its log probability / length ** length_penalty, so more
            than 0 favours long ones.

    Raises:
        RequestError: `beams` or `length_penalty` is out of range.
    """

    language: str | None = None
    task: str = "transcribe"
    timestamps: bool = False
    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        least, most = BEAMS
        if self.beams not in range(least, most + 1):
            raise RequestError(f"beams {self.beams!r}: a number from {least} to {most}; 1 is greedy decoding")
        if not math.isfinite(self.length_penalty):
            raise RequestError(f"length_penalty {self.length_penalty!r}: a finite number; 1 is usual")


@dataclass(frozen=True)
class Segment:
    """A stretch of speech: `start` and `end` in seconds from the start of the clip, and its text."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What was heard in one clip.

    Attributes:
        text: the words, without special tokens.
        tokens: generated ids as transformers' generate() returns them: no prompt, no end token, no padding.
        segments: timed pieces of the text; without timestamps, one for each window.
        language: code of the language given or detected (in the first window); None for English-only models.
        no_speech_prob: probability of the no-speech token at the start of the first window.
        avg_logprob: mean log probability of the generated tokens, end tokens included.
    """

    text: str
    tokens: tuple[int, ...]
    segments: tuple[Segment, ...]
    language: str | None = None
    no_speech_prob: float | None = None
    avg_logprob: float | None = None
