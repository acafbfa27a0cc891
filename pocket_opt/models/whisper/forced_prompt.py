"""How many tokens a model is forced to begin with: what graphs of fixed shapes are made to take at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.models.layout import GENERATION_CONFIG, TOKENIZER, read_table
from pocket_opt.models.whisper.runner.transcript import DecodeOptions

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact


def longest_prompt(source: Artifact) -> int:
    """Tokens of the longest prompt that the model is forced to begin with: it depends on whether it has languages."""
    from pocket_opt.models.whisper.runner.vocabulary import Vocabulary

    generation = read_table(source.file("model", GENERATION_CONFIG))
    return len(Vocabulary(source.file("processor", TOKENIZER), generation).first_prompt(DecodeOptions()))
