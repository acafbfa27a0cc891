"""The tokens that a model itself says, fed to it and to its variants: one different word changes nothing after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocket_opt.runtimes.base import DecodeOptions

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import Audio, SpeechRuntime, Tokens


@dataclass(frozen=True)
class Forced:
    """Prompt and greedy tokens `[1, length]`, of which the first `prompt` are the prompt."""

    tokens: Tokens
    prompt: int


def force(runtime: SpeechRuntime, audio: Audio, language: str | None, max_new_tokens: int) -> Forced:
    """What `runtime` says of `audio` `[samples]`, in `language` where it knows that, else in the one it detects."""
    options = DecodeOptions(language=known_language(runtime, language), max_new_tokens=max_new_tokens)
    said = runtime.transcribe([audio], options)[0]
    prompt = runtime.prompt(DecodeOptions(language=said.language))
    return Forced(np.array([[*prompt, *said.tokens]], np.int64), len(prompt))


def known_language(runtime: SpeechRuntime, language: str | None) -> str | None:
    """`language` if the model knows it, else None: detect it, or English for an English-only model."""
    try:
        runtime.prompt(DecodeOptions(language=language))
    except ValueError:
        return None
    return language
