"""When each word was said: the cross-attention of a few heads follows the speech, and gives the times.

The method of openai/whisper (`timing.py`): the text is fed once more, the weights of the alignment heads are normalised
over the tokens and smoothed over time, and dynamic time warping finds the frames at which each token begins. Times of
generated tokens equal those of transformers' `return_token_timestamps`. What differs is what is wrong there: rows of a
batch do not see each other's padding, a frame that no head looks at is 0 and not NaN, and without time tokens the first
word is aligned, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .audio import Floats
from .rules import Tokens, log_sum_exp
from .transcript import RequestError, Word
from .vocabulary import Vocabulary
from .words import split_words

MEDIAN_WIDTH = 7
"""Frames of the median filter, as in all published models."""
MEDIAN_OF_7 = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6)),
    *((2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)
"""Places to put in order, one pair after the other, until the median is in the middle; 20 times as fast as sorting."""

Heads = Sequence[tuple[int, int]]
"""Layer and head of the decoder, both from 0."""


@dataclass(frozen=True)
class Compared:
    """What the cross-attention of one layer compares.

    Attributes:
        queries: `[batch, heads, length, head_dim]`, scaled.
        keys: `[batch, heads, positions, head_dim]`.
    """

    queries: Floats
    keys: Floats

    def weights(self, head: int) -> Floats:
        """The attention `[length, positions]` of a head, in the first row of the batch."""
        scores = self.queries[0, head] @ self.keys[0, head].T
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        result: Floats = weights / weights.sum(-1, keepdims=True)
        return result


Attention = Mapping[int, Compared]
"""By layer."""


class Attentive(Protocol):
    """A model that tells what it attends to."""

    def attend(self, tokens: Tokens, state: Any) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        ...


@dataclass(frozen=True)
class Spoken:
    """What was decoded of a window: the model's `state` of it, the prompt, and the tokens that followed.

    Attributes:
        state: of the encoder, one row.
        frames: encoder positions that are not padding.
    """

    state: Any
    prompt: Sequence[int]
    tokens: Sequence[int]
    frames: int


@dataclass(frozen=True)
class TokenTimes:
    """Times of the tokens of a window.

    Attributes:
        frames: `[tokens + 1]`; a token lasts from its frame to the next one.
        probabilities: `[tokens]`, among all words; of time tokens 0.
    """

    frames: Sequence[int]
    probabilities: Sequence[float]

    def part(self, first: int, count: int) -> TokenTimes:
        """The times of `count` tokens from the token `first` on."""
        end = first + count
        return TokenTimes(self.frames[first : end + 1], self.probabilities[first:end])

    def words(
        self,
        tokens: Sequence[int],
        vocabulary: Vocabulary,
        language: str | None,
        span: tuple[float, float],
        seconds: float,
    ) -> tuple[Word, ...]:
        """The words of these `tokens`, in a window of the given `span` in seconds; frames take `seconds`."""
        texts = [place for place, token in enumerate(tokens) if token < vocabulary.end]
        pieces = split_words([tokens[place] for place in texts], vocabulary.decode, language)
        words, at = [], 0
        for text, count in pieces:
            places = texts[at : at + count]
            start, end = (
                round(min(span[0] + self.frames[edge] * seconds, span[1]), 3)
                for edge in (places[0], places[-1] + 1)
            )
            probability = sum(self.probabilities[place] for place in places) / count
            words.append(Word(start, end, text, round(probability, 4)))
            at += count
        return tuple(words)


def alignment_heads(generation: Mapping[str, Any], layers: int, heads: int) -> Heads:
    """The heads that a generation configuration names; by default, as Whisper, all of the last half of the layers.

    Raises:
        RequestError: it names a head that a decoder of so many layers and heads does not have.
    """
    stated = generation.get("alignment_heads")
    if not stated:
        return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]
    for layer, head in stated:
        if layer not in range(layers) or head not in range(heads):
            raise RequestError(
                f"generation_config.json: alignment_heads names head {head} of layer {layer}, and the decoder has "
                f"{layers} layers of {heads} heads; without alignment_heads the last half of the layers is used"
            )
    return [(int(layer), int(head)) for layer, head in stated]


def token_times(model: Attentive, spoken: Spoken, heads: Heads, vocabulary: Vocabulary) -> TokenTimes:
    """When the tokens of a window were spoken."""
    prompt, tokens = len(spoken.prompt), list(spoken.tokens)
    fed = np.array([[*spoken.prompt, *tokens]], np.int64)
    logits, attention = model.attend(fed, spoken.state)
    # A row of the attention belongs to the prediction of the next token. That of a time at the beginning tells nothing.
    silent = int(bool(tokens) and tokens[0] >= vocabulary.timestamp_begin)
    first = prompt - 1 + silent
    found = first_frames(
        attention[layer].weights(head)[first:, : max(spoken.frames, 1)] for layer, head in heads
    )
    frames = [found[0]] * silent + found
    return TokenTimes(frames, _probabilities(logits[0, prompt - 1 : -1, : vocabulary.end], tokens))


def first_frames(weights: Iterator[Floats]) -> list[int]:
    """The first frame of each row, given the weights `[rows, frames]` of one head after the other."""
    smooth = map(smoothed, map(_normalised, weights))
    total, count = next(smooth), 1
    for one in smooth:
        total, count = total + one, count + 1
    path = warping_path(-(total / count).astype(np.float64))
    firsts: dict[int, int] = {}
    for row, frame in path:
        firsts.setdefault(row, frame)
    return list(firsts.values())


def warping_path(costs: np.ndarray[Any, np.dtype[np.float64]]) -> list[tuple[int, int]]:
    """Rows and columns of the cheapest way through `costs` `[rows, columns]` that goes back in neither.

    Where ways cost the same, it is the one that transformers finds, whose sums are in 32 bits. The cells of a
    diagonal do not depend on each other, so they are computed at once.
    """
    rows, columns = costs.shape
    flat = np.ascontiguousarray(costs).ravel()
    # Sums by diagonal and row, with a row and a column before the first.
    sums = np.full((rows + columns + 1, rows + 1), np.inf, np.float32)
    steps = np.zeros(sums.shape, np.uint8)
    sums[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        low, high = max(1, diagonal - columns), min(rows, diagonal - 1) + 1
        both = sums[diagonal - 2, low - 1 : high - 1]
        row, column = sums[diagonal - 1, low - 1 : high - 1], sums[diagonal - 1, low:high]
        begin = (low - 1) * columns + diagonal - low - 1
        here = flat[begin :: max(columns - 1, 1)][: high - low]
        step = np.where(
            (both < row) & (both < column), BOTH, np.where((row < both) & (row < column), ROW, COLUMN)
        )
        steps[diagonal, low:high] = step
        sums[diagonal, low:high] = here + np.choose(step, (both, row, column))
    return _back(steps, rows, columns)


BOTH, ROW, COLUMN = 0, 1, 2
"""Where a way came from: the row and the column before, the row before, or the column before."""


def _back(steps: np.ndarray[Any, np.dtype[np.uint8]], row: int, column: int) -> list[tuple[int, int]]:
    path = []
    while row or column:
        path.append((row - 1, column - 1))
        step = steps[row + column, row]
        row -= int(step != COLUMN)
        column -= int(step != ROW)
    return path[::-1]


def _normalised(weights: Floats) -> Floats:
    """Each frame relative to what all rows make of it."""
    centred = weights - weights.mean(0, keepdims=True)
    spread = weights.std(0, keepdims=True)
    result: Floats = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return result


def smoothed(weights: Floats) -> Floats:
    """Medians over `MEDIAN_WIDTH` frames, mirrored at the ends."""
    half = MEDIAN_WIDTH // 2
    if weights.shape[1] <= half:
        return weights
    padded = np.pad(weights, ((0, 0), (half, half)), mode="reflect")
    moved = [padded[:, first : first + weights.shape[1]] for first in range(MEDIAN_WIDTH)]
    for low, high in MEDIAN_OF_7:
        one, other = moved[low], moved[high]
        moved[low], moved[high] = np.minimum(one, other), np.maximum(one, other)
    return moved[half]


def _probabilities(logits: Floats, tokens: Sequence[int]) -> list[float]:
    """Of `tokens`, each among the words whose `logits` `[tokens, words]` are given; 0 for what is none."""
    words = np.array(tokens, np.int64)
    known = words < logits.shape[1]
    chosen = logits[np.arange(len(words)), np.where(known, words, 0)]
    found: list[float] = np.where(known, np.exp(chosen - log_sum_exp(logits)), 0).tolist()
    return found
