"""A clip and a token sequence that are the same for every variant, so that times and memory can be compared.

Left to itself, a variant that ends early would look fast. Here the audio is synthetic and the decoder is fed a fixed
sequence whatever it predicts; the choice of the next token is still computed, because it is part of a step. With beams
every one of them is fed the same token, and they change places at each step, so that what a search costs is in it: more
rows, caches put in another order, the best candidates of each row.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocket_opt.evaluation.timing import Sample

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import Audio, Floats, OneGraphRuntime, Steps, Tokens

TOKENS_PER_S = 4
"""Rounded up from 150 words a minute (ordinary speech) and 1.4 tokens a word."""
PROMPT_TOKENS = 4
"""Length of Whisper's usual prompt (start, language, task, no timestamps); which ids are fed costs the same time."""


@dataclass(frozen=True)
class ForcedClip:
    """Audio of one window, the prompt `[1, 4]` and the tokens to feed after it."""

    audio: Audio
    prompt: Tokens
    tokens: tuple[int, ...]


def forced_clip(dims: Mapping[str, Any], new_tokens: int | None) -> ForcedClip:
    """The clip for a model of `dims` (an artifact's metadata); fewer tokens where it has fewer positions.

    Args:
        new_tokens: tokens to generate, the one that follows the prompt included; None: as many as are usually said in
            the time of a window.
    """
    import numpy as np

    count = min(
        new_tokens or TOKENS_PER_S * math.ceil(dims["window_s"]), dims["target_positions"] - PROMPT_TOKENS
    )
    ids = [1 + place % min(200, dims["vocab"] - 1) for place in range(PROMPT_TOKENS + count - 1)]
    audio = synthetic_audio(dims["window_s"], dims["sample_rate"])
    return ForcedClip(audio, np.array([ids[:PROMPT_TOKENS]], np.int64), tuple(ids[PROMPT_TOKENS:]))


def synthetic_audio(seconds: float, sample_rate: int) -> Audio:
    """Noise that swells four times a second like syllables, `[seconds * sample_rate]` in -1..1; always the same."""
    import numpy as np

    count = round(seconds * sample_rate)
    noise = np.random.default_rng(0).standard_normal(count)
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(count) / sample_rate)
    return np.asarray(np.clip(0.1 * noise * swell, -1, 1), np.float32)


def run_forced(runtime: Steps, clip: ForcedClip, beams: int = 1) -> Sample:
    """Take the clip through all phases; milliseconds of each, "step" once for each token after the first."""
    import numpy as np

    choose = _best_candidates if beams > 1 else _most_probable

    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    features = runtime.features([clip.audio])
    mark()
    state = runtime.encode(features)
    mark()
    logits, state = runtime.decode(clip.prompt, state)
    choose(logits, beams)
    mark()
    rows = [0] * beams
    for token in clip.tokens:
        if beams > 1:
            state = runtime.select(state, rows)
            rows = [*range(1, beams), 0]
        logits, state = runtime.decode(np.full((beams, 1), token, np.int64), state)
        choose(logits, beams)
        mark()
    mel, encoder, prefill, *steps = (1000 * (end - start) for start, end in itertools.pairwise(marks))
    total = 1000 * (marks[-1] - marks[0])
    return {"mel": [mel], "encoder": [encoder], "prefill": [prefill], "step": steps, "total": [total]}


def _most_probable(logits: Floats, beams: int) -> None:  # noqa: ARG001
    logits[0, -1].argmax()


def _best_candidates(logits: Floats, beams: int) -> None:
    """What the beam search looks at: the best next tokens of each row, and what they are worth."""
    from pocket_opt.models.whisper.runner.beam import highest
    from pocket_opt.models.whisper.runner.rules import log_sum_exp

    highest(logits[:, -1], 2 * beams)
    log_sum_exp(logits[:, -1])


def run_whole(runtime: OneGraphRuntime, clip: ForcedClip, beams: int = 1) -> Sample:
    """Milliseconds in all of a model without steps; it makes as many tokens as the clip has, but of its own choice."""
    from pocket_opt.runtimes.base import DecodeOptions

    start = time.perf_counter()
    runtime.hear([clip.audio], DecodeOptions(beams=beams), new_tokens=len(clip.tokens) + 1)
    return {"total": [1000 * (time.perf_counter() - start)]}
