"""What every speech runtime can do, whatever runs underneath: the steps one by one, and whole transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, RequestError, Segment, Transcript

__all__ = [
    "Audio",
    "DecodeOptions",
    "Floats",
    "OneGraphRuntime",
    "Segment",
    "SpeechRuntime",
    "State",
    "Steps",
    "Tokens",
    "Transcript",
]

Audio: TypeAlias = NDArray[np.float32]
"""Mono samples `[samples]` in -1..1 at the runtime's `sample_rate`."""
Floats: TypeAlias = NDArray[np.float32]
Tokens: TypeAlias = NDArray[np.int64]
State: TypeAlias = Any
"""What the decoder remembers, opaque. Several decodings may start from a state of `encode`; a state of `decode` is used
up by the next call."""


def beyond_the_model(error: RequestError) -> UserError:
    """What a model does not know or cannot do, as the rest of the package reports errors."""
    return UserError(str(error), where="transcribe", fix="ask for something else, or take another model")


class Steps(Protocol):
    """The steps of an opened speech model, one by one."""

    def features(self, audio: Sequence[Audio]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips, each padded or cut to one window."""
        ...

    def encode(self, features: Floats) -> State:
        """Run the encoder; the state from which decoding starts. `encoder_hidden(state)` reads its output."""
        ...

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]` in a state that `encode` returned."""
        ...

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]` after those already fed; logits `[batch, length, vocab]`, new state."""
        ...

    def select(self, state: State, rows: Sequence[int]) -> State:
        """The state of some rows, in this order; a row may be there several times."""
        ...


class SpeechRuntime(Steps, Protocol):
    """An opened speech model.

    Attributes:
        sample_rate: Hz that `features` and `transcribe` expect.
        window_s: seconds of audio that the encoder sees at once.
        load_seconds: time that opening took.
        stepwise: whether the steps can be called: not where one graph does it all, from samples to text.
    """

    sample_rate: int
    window_s: float
    load_seconds: float
    stepwise: bool

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced start tokens. Without `options.language` a multilingual model gets only the first one."""
        ...

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions) -> list[Transcript]:
        """Transcripts of the clips, decoded as one batch."""
        ...

    def stream(self, samples: Audio, options: DecodeOptions) -> Iterator[Segment]:
        """The segments of a clip `[samples]`, those of a window as soon as it is decoded."""
        ...


class OneGraphRuntime(SpeechRuntime, Protocol):
    """A speech model that is not `stepwise`."""

    def hear(self, audio: Sequence[Audio], options: DecodeOptions, *, new_tokens: int) -> list[str]:
        """The texts of the first windows of clips, each of exactly `new_tokens` tokens."""
        ...
