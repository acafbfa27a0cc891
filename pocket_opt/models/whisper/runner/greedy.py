"""One continuation a row: always the most probable token that the rules allow, or one drawn at a temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .audio import Floats
from .rules import Rules, Tokens, log_sum_exp
from .search import Found, Prompted, Steps, silence

Choice = Callable[[Floats], Tokens]
"""Picks a token `[batch]` for each row of scores `[batch, vocab]`; forbidden tokens are at -inf."""


def greedy(model: Steps, rules: Rules, prompted: Prompted) -> list[Found]:
    """Continue each row by the most probable tokens."""
    return _follow(model, rules, prompted, _most_probable)


def sample(
    model: Steps, rules: Rules, prompted: Prompted, temperature: float, generator: np.random.Generator
) -> list[Found]:
    """Continue each row by tokens drawn from softmax(scores / temperature), temperature above 0."""

    def draw(scores: Floats) -> Tokens:
        # The largest of scores with Gumbel noise is a draw from their softmax: nothing has to be normalised.
        return _most_probable(scores / temperature + generator.gumbel(size=scores.shape))

    return _follow(model, rules, prompted, draw)


def _most_probable(scores: Floats) -> Tokens:
    best: Tokens = scores.argmax(-1)
    return best


def _follow(model: Steps, rules: Rules, prompted: Prompted, choose: Choice) -> list[Found]:
    vocabulary, batch = rules.vocabulary, len(prompted.prompts)
    logits, state = model.decode(prompted.prompts, prompted.state)
    silent = silence(logits, vocabulary, prompted)
    generated = np.full((batch, prompted.longest), vocabulary.pad, np.int64)
    running, every = np.ones(batch, np.bool_), np.arange(batch)
    logprobs, steps = np.zeros(batch), np.zeros(batch, np.int64)
    for count in range(prompted.longest):
        if count:
            logits, state = model.decode(generated[:, count - 1 : count], state)
        scores = logits[:, -1]
        rules.apply(scores, generated[:, :count], timestamps=prompted.timestamps)
        chosen = choose(scores)
        gained = scores[every, chosen] - log_sum_exp(scores)
        logprobs[running] += gained[running]
        steps += running
        generated[running, count] = chosen[running]
        running &= chosen != vocabulary.end
        if not running.any():
            break
    spoken = steps - ~running  # without the end token
    rows: list[tuple[Any, ...]] = list(zip(generated, spoken, logprobs, steps, silent, strict=True))
    return [
        Found(row[:length].tolist(), float(logprob), int(count), quiet)
        for row, length, logprob, count, quiet in rows
    ]
