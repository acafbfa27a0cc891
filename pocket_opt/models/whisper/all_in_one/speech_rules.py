"""What a graph has to know of a model's vocabulary and decoding rules, as numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.vocabulary import Vocabulary

GENERATION_DEFAULT = 20
"""Tokens that generate() of transformers gives where nothing says how many."""


@dataclass(frozen=True)
class SpeechRules:
    """Ids, limits and suppressed tokens, as the stand-alone runner reads them.

    Attributes:
        languages, tasks: id by name; empty for a model that is not told them.
        never, not_first: suppressed tokens, everywhere and as the first.
        latest_first: the highest first time, counted from `timestamp_begin`; None: any.
        new_tokens: how many a window may have unless a caller says otherwise.
        longest: tokens that the decoder has positions for, prompt included.
        vocab: width of the logits.
        frames: of the features of one window.
    """

    start: int
    end: int
    pad: int
    no_timestamps: int
    no_speech: int
    timestamp_begin: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    never: tuple[int, ...]
    not_first: tuple[int, ...]
    latest_first: int | None
    new_tokens: int
    longest: int
    vocab: int
    frames: int


def read_speech_rules(model: Artifact) -> SpeechRules:
    """The rules of an exported model."""
    generation = json.loads(model.file("generation", "generation_config.json").read_text(encoding="utf-8"))
    vocabulary = Vocabulary(model.file("processor", "tokenizer.json"), generation)
    dims: Mapping[str, Any] = model.metadata["dims"]
    never, not_first = (
        tuple(token for token in generation.get(key) or () if 0 <= token < dims["vocab"])
        for key in ("suppress_tokens", "begin_suppress_tokens")
    )
    new = generation.get("max_new_tokens") or generation.get("max_length") or GENERATION_DEFAULT
    return SpeechRules(
        start=vocabulary.start,
        end=vocabulary.end,
        pad=vocabulary.pad,
        no_timestamps=vocabulary.no_timestamps,
        no_speech=vocabulary.no_speech,
        timestamp_begin=vocabulary.timestamp_begin,
        languages=vocabulary.languages,
        tasks=generation.get("task_to_id", {}) if vocabulary.languages else {},
        never=never,
        not_first=not_first,
        latest_first=generation.get("max_initial_timestamp_index"),
        new_tokens=int(new),
        longest=int(dims["target_positions"]),
        vocab=int(dims["vocab"]),
        frames=2 * int(dims["source_positions"]),
    )
