"""Greedy decoding: always the most probable token that the rules allow."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .audio import Floats
from .rules import Rules, Tokens, log_sum_exp
from .vocabulary import Vocabulary


class Steps(Protocol):
    """The decoder of an opened model, one call at a time."""

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those already fed; logits `[batch, length, vocab]`, new state."""
        ...


@dataclass(frozen=True)
class Found:
    """What was decoded for one row.

    Attributes:
        tokens: after the prompt, without the end token.
        logprob: sum of the log probabilities of `steps` predictions, that of the end token included.
        no_speech: probability of the no-speech token after the start token.
    """

    tokens: list[int]
    logprob: float
    steps: int
    no_speech: float


def greedy(
    model: Steps,
    vocabulary: Vocabulary,
    rules: Rules,
    state: Any,
    prompts: Tokens,
    limit: int,
    *,
    timestamps: bool,
) -> list[Found]:
    """Continue `prompts` `[batch, length]` from an encoder's state to at most `limit` tokens, prompt included."""
    logits, state = model.decode(prompts, state)
    silence = np.exp(logits[:, 0, vocabulary.no_speech] - log_sum_exp(logits[:, 0]))
    generated = np.zeros((len(prompts), 0), np.int64)
    running = np.ones(len(prompts), np.bool_)
    logprobs, steps = np.zeros(len(prompts)), np.zeros(len(prompts), np.int64)
    while running.any() and prompts.shape[1] + generated.shape[1] < limit:
        if generated.shape[1]:
            logits, state = model.decode(generated[:, -1:], state)
        scores = logits[:, -1]
        rules.apply(scores, generated, timestamps=timestamps)
        logprobs += np.where(running, scores.max(-1) - log_sum_exp(scores), 0)
        steps += running
        chosen = np.where(running, scores.argmax(-1), vocabulary.pad)
        generated = np.concatenate([generated, chosen[:, None]], axis=1)
        running &= chosen != vocabulary.end
    rows = [list(itertools.takewhile(vocabulary.end.__ne__, row)) for row in generated.tolist()]
    return [
        Found(*row) for row in zip(rows, logprobs.tolist(), steps.tolist(), silence.tolist(), strict=True)
    ]
