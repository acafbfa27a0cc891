"""What can be asked of a model, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

TASKS = ("transcribe", "translate")
BEAMS = (1, 5)
"""Fewest and most beams. A sixth changes next to nothing and costs as much as each before it."""


class RequestError(ValueError):
    """What was asked for cannot be had: a language, a task, beams, times of words, or a directory without a model."""


@dataclass(frozen=True)
class Fallback:
    """When a window of long audio is decoded again, more freely (Radford et al. 2022, section 4.5).

    Attributes:
        temperatures: tried one after the other; at 0 the search is as asked, above it tokens are drawn.
        compression_ratio: what zlib makes smaller by more repeats itself, and is decoded again; None: never.
        logprob: what has a lower mean log probability is decoded again; None: never.
        no_speech: what has a low log probability and a higher probability of no speech is left out; None: never.
        seed: of the generator that draws.

    Raises:
        RequestError: no temperature, or one below 0.
    """

    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio: float | None = 1.35
    logprob: float | None = -1.0
    no_speech: float | None = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperatures or not all(0 <= one < math.inf for one in self.temperatures):
            raise RequestError(f"temperatures {self.temperatures!r}: one or more numbers from 0 on")


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        language: code of the spoken language ("de" or "<|de|>"); None: detect it for each clip.
        task: "transcribe", or "translate" (to English).
        timestamps: predict the times of segments; always done in audio longer than a window.
        max_new_tokens: most tokens to generate a window; None: what the model's generation configuration says.
        beams: sequences followed side by side, 1 to 5; 1 is greedy decoding.
        length_penalty: a sequence of the beam search is worth its log probability / length ** length_penalty, so more
            than 0 favours long ones.
        fallback: for audio longer than a window; None: every window is decoded once.
        condition_on_previous: tell each further window of long audio what was said before it. Words are spelled more
            alike, and mistakes are repeated.
        word_timestamps: find the time of each word afterwards; the text stays what it is.

    Raises:
        RequestError: `beams` or `length_penalty` is out of range.
    """

    language: str | None = None
    task: str = "transcribe"
    timestamps: bool = False
    max_new_tokens: int | None = None
    beams: int = 1
    length_penalty: float = 1.0
    fallback: Fallback | None = Fallback()
    condition_on_previous: bool = False
    word_timestamps: bool = False

    def __post_init__(self) -> None:
        least, most = BEAMS
        if self.beams not in range(least, most + 1):
            raise RequestError(f"beams {self.beams!r}: a number from {least} to {most}; 1 is greedy decoding")
        if not math.isfinite(self.length_penalty):
            raise RequestError(f"length_penalty {self.length_penalty!r}: a finite number; 1 is usual")


@dataclass(frozen=True)
class Word:
    """A word with the space and the marks around it: `start` and `end` in seconds from the start of the clip.

    Attributes:
        probability: mean of the probabilities of its tokens, 0 to 1.
    """

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech: `start` and `end` in seconds from the start of the clip, and its text.

    Attributes:
        words: with times of their own, where `word_timestamps` were asked for.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What was heard in one clip.

    Attributes:
        text: the words, without special tokens.
        tokens: generated ids as transformers' generate() returns them: no prompt, no end token, no padding.
        segments: timed pieces of the text; of a short clip without timestamps, one.
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

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of all segments; empty unless `word_timestamps` were asked for."""
        return tuple(word for part in self.segments for word in part.words)
