"""Beam search: the most probable whole sequences among a few that are followed side by side.

It follows `GenerationMixin._beam_search` of transformers (early_stopping=False): of each clip's continuations the best
`2 * beams` are looked at; those among the first `beams` that end are kept by their score divided by
`length ** length_penalty`; it is over when the best that runs on could not beat the worst that is kept. Clips do not
influence each other. The prompt is read once for each clip; the rows of its beams begin after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .audio import Floats
from .rules import Rules, Tokens, log_sum_exp
from .search import Found, Prompted, Steps, silence

BLOCKS = 64
TINY = 1e-20
"""Sums of exponentials below this have lost digits: every token of note was forbidden."""


@dataclass(frozen=True)
class _Path:
    """A sequence so far.

    Attributes:
        row: of the logits that continue the sequence before its last token.
        score: sum of log probabilities among all tokens, by which paths are compared.
        logprob: the same among the tokens that the rules allow.
    """

    row: int
    score: np.float32
    logprob: float
    tokens: tuple[int, ...] = ()


@dataclass
class _Clip:
    """The search for one clip: paths that run on, the best first, and those that ended with what they are worth."""

    running: list[_Path]
    ended: list[tuple[float, _Path]] = field(default_factory=list)
    over: bool = False

    def advance(
        self, continued: list[_Path], beams: int, length_penalty: float, *, end: int, last: bool
    ) -> None:
        """Go on with the best of `continued`; where `last`, they end here."""
        best = sorted(continued, key=lambda path: -path.score)[: 2 * beams]
        length = len(best[0].tokens) ** length_penalty
        finished = [path for path in best[:beams] if last or path.tokens[-1] == end]
        self.ended += [(float(path.score / length), path) for path in finished]
        self.ended = sorted(self.ended, key=lambda worth: -worth[0])[:beams]
        self.running = [path for path in best if path.tokens[-1] != end][:beams]
        self.over = last or not self.running
        if len(self.ended) == beams and not self.over:
            self.over = float(self.running[0].score / length) <= self.ended[-1][0]


def beam(
    model: Steps, rules: Rules, prompted: Prompted, beams: int, length_penalty: float = 1.0
) -> list[Found]:
    """Continue each row by the best of the sequences found; a positive `length_penalty` favours long ones."""
    end, longest = rules.vocabulary.end, prompted.longest
    logits, state = model.decode(prompted.prompts, prompted.state)
    silent = silence(logits, rules.vocabulary, prompted)
    clips = [_Clip([_Path(row, np.float32(0), 0.0)]) for row in range(len(prompted.prompts))]
    fed: Tokens = np.zeros((len(clips), 0), np.int64)
    open_clips = clips if longest else []
    while open_clips:
        last = fed.shape[1] + 1 == longest
        candidates = _candidates(logits[:, -1], fed, rules, prompted, 2 * beams)
        place = 0
        for clip in open_clips:
            rows = range(place, place + len(clip.running))
            place = rows.stop
            continued = _continued(clip.running, rows, candidates)
            clip.advance(continued, beams, length_penalty, end=end, last=last)
        open_clips = [clip for clip in open_clips if not clip.over]
        if paths := [path for clip in open_clips for path in clip.running]:
            rows_kept = [path.row for path in paths]
            if rows_kept != list(range(len(fed))):
                state, fed = model.select(state, rows_kept), fed[rows_kept]
            tokens = np.array([path.tokens[-1:] for path in paths], np.int64)
            fed = np.concatenate([fed, tokens], axis=1)
            logits, state = model.decode(tokens, state)
    return [_found(clip, quiet, end) for clip, quiet in zip(clips, silent, strict=True)]


def _candidates(
    scores: Floats, fed: Tokens, rules: Rules, prompted: Prompted, count: int
) -> tuple[list[list[int]], Floats, Floats]:
    """The best `count` next tokens of each row, their log probabilities among all tokens, and among those allowed."""
    peak = scores.max(-1, keepdims=True)
    powers = scores - peak
    np.exp(powers, out=powers)
    everything = np.log(powers.sum(-1, keepdims=True)) + peak
    rules.apply(scores, fed, timestamps=prompted.timestamps)
    # Exponentials are most of the work of a step, so those of allowed tokens are not computed again.
    rest = np.multiply(powers, scores > -np.inf, out=powers).sum(-1, keepdims=True)
    allowed = log_sum_exp(scores)[:, None] if rest.min() < TINY else np.log(rest) + peak
    best = highest(scores, count)
    values = np.take_along_axis(scores, best, 1)
    return best.tolist(), values - everything, values - allowed


def _continued(
    running: Sequence[_Path], rows: Sequence[int], candidates: tuple[list[list[int]], Floats, Floats]
) -> list[_Path]:
    tokens, scores, logprobs = candidates
    return [
        _Path(
            row, path.score + scores[row, at], path.logprob + float(logprobs[row, at]), (*path.tokens, token)
        )
        for path, row in zip(running, rows, strict=True)
        for at, token in enumerate(tokens[row])
    ]


def _found(clip: _Clip, quiet: float, end: int) -> Found:
    if not clip.ended:
        return Found([], 0.0, 0, quiet)
    path = clip.ended[0][1]
    return Found([token for token in path.tokens if token != end], path.logprob, len(path.tokens), quiet)


def highest(scores: Floats, count: int) -> Tokens:
    """Places `[rows, count]` of the highest values in each row of `scores` `[rows, size]`, the highest first.

    Looks closely only at the `count` columns with the highest peaks when a row is laid out in `BLOCKS` lines: numpy
    takes maxima 50 times as fast as it partitions, which matters at 51,865 tokens.
    """
    rows, size = scores.shape
    columns = size // BLOCKS
    if columns <= count:
        return np.argsort(-scores, axis=1, kind="stable")[:, :count]
    peaks = scores[:, : columns * BLOCKS].reshape(rows, BLOCKS, columns).max(1)
    promising = np.argpartition(-peaks, count - 1, axis=1)[:, :count]
    inside = (promising[:, :, None] + columns * np.arange(BLOCKS)).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(columns * BLOCKS, size), (rows, size - columns * BLOCKS))
    places = np.concatenate([inside, rest], axis=1)
    negative = -np.take_along_axis(scores, places, 1)
    first = np.argpartition(negative, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(negative, first, 1).argsort(axis=1)
    best: Tokens = np.take_along_axis(np.take_along_axis(places, first, 1), order, 1)
    return best
