"""What can be asked of a model, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("transcribe", "translate")


class RequestError(ValueError):
    """What was asked for is beyond the model: a language, a task, or a directory that holds none."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        language: code of the spoken language ("de" or "<|de|>"); None: detect it for each clip.
        task: "transcribe", or "translate" (to English).
        timestamps: predict the times of segments.
        max_new_tokens: most tokens to generate a window; None: what the model's generation configuration says.
    """

    language: str | None = None
    task: str = "transcribe"
    timestamps: bool = False
    max_new_tokens: int | None = None


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
