"""How many tokens a variant has in common with the source model, where its logits cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.evaluation.result import Metric

Said = tuple[tuple[int, ...], str]
"""Tokens and text of a clip."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket_opt.data.dataset import Dataset
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.base import SpeechRuntime

ONE_GRAPH = "the model is one graph from samples to text, which shows neither features nor logits"


def compare_tokens(
    source: SpeechRuntime, model: SpeechRuntime, clips: Dataset, limit: int, progress: Progress, *, why: str
) -> dict[str, Metric]:
    """Agreement in percent of the greedy tokens (at most `limit`) and texts of the clips' first windows.

    Args:
        why: tokens are compared, for whoever reads the method.
    """
    from pocket_opt.runtimes.base import DecodeOptions
    from pocket_opt.runtimes.teacher_forcing import known_language

    pairs = []
    for done, clip in enumerate(clips, start=1):
        audio = clip.samples(source.sample_rate)[: round(source.window_s * source.sample_rate)]
        options = DecodeOptions(language=known_language(source, clip.language), max_new_tokens=limit)
        [expected], [found] = source.transcribe([audio], options), model.transcribe([audio], options)
        pairs.append(((expected.tokens, expected.text), (found.tokens, found.text)))
        progress(done, len(clips), "clips")
    return token_metrics(pairs, f"greedy, at most {limit} a clip; {why}")


def token_metrics(pairs: Sequence[tuple[Said, Said]], how: str) -> dict[str, Metric]:
    """Agreement in percent of tokens place by place, and of texts, each model saying its own tokens."""
    tokens = [(expected[0], found[0]) for expected, found in pairs]
    equal = sum(one == other for pair in tokens for one, other in zip(*pair, strict=False))
    total = sum(max(map(len, pair)) for pair in tokens)
    texts = sum(expected[1] == found[1] for expected, found in pairs)
    how = f"each model its own tokens, {how}"
    return {
        "token_agreement": Metric(
            100 * equal / max(total, 1), "%", total, f"tokens equal place by place; {how}"
        ),
        "equal_texts": Metric(100 * texts / len(pairs), "%", len(pairs), f"clips with the same text; {how}"),
    }
