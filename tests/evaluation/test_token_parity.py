"""Tokens in common of two models that say what they are told to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planned_inputs import write_clips

from pocket_opt.data.dataset import Dataset
from pocket_opt.evaluation.token_parity import compare_tokens
from pocket_opt.runtimes.base import DecodeOptions, Transcript
from pocket_opt.worker import silent


class Says:
    """Answers every clip alike."""

    sample_rate, window_s = 16_000, 4.0

    def __init__(self, text: str, *tokens: int) -> None:
        self._said = Transcript(text, tokens, ())

    def prompt(self, options: DecodeOptions) -> list[int]:
        return [0]

    def transcribe(self, audio: list[Any], options: DecodeOptions) -> list[Transcript]:
        return [self._said for _ in audio]


def test_tokens_are_compared_place_by_place(tmp_path: Path) -> None:
    clips = Dataset.open(str(write_clips(tmp_path / "clips")), where="-")
    source, model = Says("a b c", 1, 2, 3), Says("a x", 1, 9)
    found = compare_tokens(source, model, clips, 8, silent, why="one graph")
    assert round(found["token_agreement"].value, 2) == 33.33
    assert found["equal_texts"].value == 0
    assert compare_tokens(source, source, clips, 8, silent, why="-")["equal_texts"].value == 100
    assert "one graph" in found["token_agreement"].method
