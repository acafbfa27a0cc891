"""What every search works on and gives back; the searches are `greedy` and `beam`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .audio import Floats
from .rules import Tokens, log_sum_exp
from .vocabulary import Vocabulary


class Steps(Protocol):
    """The decoder of an opened model, one call at a time."""

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those already fed; logits `[batch, length, vocab]`, new state."""
        ...

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times."""
        ...


@dataclass(frozen=True)
class Prompted:
    """Rows to continue.

    Attributes:
        state: of the encoder; decoding starts in it.
        prompts: `[batch, length]`, the start token at the same place in all rows.
        limit: most tokens of a row, prompt included.
        timestamps: follow the rules for times.
    """

    state: Any
    prompts: Tokens
    limit: int
    timestamps: bool

    @property
    def longest(self) -> int:
        """Most tokens that may follow a prompt."""
        return max(self.limit - int(self.prompts.shape[1]), 0)


@dataclass(frozen=True)
class Found:
    """What was decoded for one row.

    Attributes:
        tokens: after the prompt, without the end token.
        logprob: sum of the log probabilities of `steps` predictions, that of the end token included; forbidden tokens
            have none.
        no_speech: probability of the no-speech token after the start token.
    """

    tokens: list[int]
    logprob: float
    steps: int
    no_speech: float

    @property
    def avg_logprob(self) -> float:
        """Mean log probability of a prediction."""
        return self.logprob / max(self.steps, 1)


def silence(logits: Floats, vocabulary: Vocabulary, prompted: Prompted) -> list[float]:
    """Probability of the no-speech token for each row of a prompt's `logits` `[batch, length, vocab]`."""
    place = prompted.prompts[0].tolist().index(vocabulary.start)
    scores = logits[:, place]
    return np.exp(scores[:, vocabulary.no_speech] - log_sum_exp(scores)).tolist()  # type: ignore[no-any-return]
