"""Word and character errors of transcripts, after the Whisper text normalizer.

The normalizer and the split into letters for languages without spaces follow appendix C of the Whisper paper
(https://arxiv.org/abs/2212.04356). The counts are the least-edit alignments of jiwer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Normalizer = Callable[[str], str]

ENGLISH = "en"
UNSPACED_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Written without spaces: each letter counts as a word, so WER equals CER (Whisper paper, appendix C)."""


@dataclass(frozen=True)
class ErrorCounts:
    """Edits that turn a reference into a hypothesis, and the reference's length, in words or characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


def word_counts(reference: str, hypothesis: str) -> ErrorCounts:
    """Word edits between two normalized texts; `reference` must not be empty."""
    import jiwer

    found = jiwer.process_words(reference, hypothesis)
    length = found.hits + found.substitutions + found.deletions
    return ErrorCounts(found.substitutions, found.deletions, found.insertions, length)


def character_counts(reference: str, hypothesis: str) -> ErrorCounts:
    """Character edits between two normalized texts; `reference` must not be empty."""
    import jiwer

    found = jiwer.process_characters(reference, hypothesis)
    length = found.hits + found.substitutions + found.deletions
    return ErrorCounts(found.substitutions, found.deletions, found.insertions, length)


def error_rate(counts: Iterable[ErrorCounts]) -> float:
    """All errors over all reference words (or characters), in %; ValueError if there are none."""
    total = sum(counts, ErrorCounts())
    if total.length == 0:
        raise ValueError("an error rate needs a reference that is not empty")
    return 100 * total.errors / total.length


@cache
def load_normalizer(language: str | None, spelling: Path | None = None) -> Normalizer:
    """The Whisper normalizer of a language code; None and "en" give the English one.

    Args:
        spelling: the `normalizer.json` (British to American) that real Whisper tokenizers come with.
    """
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language in (None, ENGLISH):
        table = json.loads(spelling.read_text(encoding="utf-8")) if spelling else {}
        return _stripped(EnglishTextNormalizer(table))
    return _stripped(BasicTextNormalizer(split_letters=language in UNSPACED_LANGUAGES))


def _stripped(normalize: Normalizer) -> Normalizer:
    return lambda text: normalize(text).strip()
