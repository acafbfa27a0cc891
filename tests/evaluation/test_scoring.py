"""Errors against cases counted by hand, and what the normalizers do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocket_opt.evaluation.scoring import (
    ErrorCounts,
    character_counts,
    error_rate,
    load_normalizer,
    word_counts,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("turn on the light", "turn on the light", (0, 0, 0, 4)),
        ("turn on the light", "turn off the light", (1, 0, 0, 4)),
        ("turn on the light", "turn the light", (0, 1, 0, 4)),
        ("turn on the light", "please turn on the light now", (0, 0, 2, 4)),
        ("turn on the light", "", (0, 4, 0, 4)),
        ("a b c d e", "a x c e", (1, 1, 0, 5)),
    ],
)
def test_word_edits_by_hand(reference: str, hypothesis: str, counts: tuple[int, int, int, int]) -> None:
    assert word_counts(reference, hypothesis) == ErrorCounts(*counts)


def test_characters_include_spaces() -> None:
    assert character_counts("ab c", "abc") == ErrorCounts(deletions=1, length=4)


def test_the_rate_weighs_clips_by_their_length() -> None:
    nine = "one two three four five six seven eight nine"
    assert error_rate([word_counts("go", "stop"), word_counts(nine, nine)]) == pytest.approx(10.0)


def test_insertions_can_exceed_100_percent() -> None:
    assert error_rate([word_counts("go", "no no no")]) == pytest.approx(300.0)


def test_a_rate_without_reference_words_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        error_rate([])


def test_english_numbers_and_contractions_become_equal() -> None:
    normalize = load_normalizer("en")
    assert normalize("Set it to twenty-five, please!") == normalize("set it to 25 please")
    assert normalize("It's on.") == "it is on"


def test_other_languages_keep_their_words_and_letters() -> None:
    assert (
        load_normalizer("de")("Schalte, BITTE, die Küche um fünf ein!")
        == "schalte bitte die küche um fünf ein"
    )


def test_languages_without_spaces_are_split_into_letters() -> None:
    assert load_normalizer("ja")("開けて。") == "開 け て"


def test_the_tokenizers_spelling_table_is_used(tmp_path: Path) -> None:
    table = tmp_path / "normalizer.json"
    table.write_text(json.dumps({"colour": "color"}))
    assert load_normalizer("en", table)("Colour") == "color"
    assert load_normalizer("en")("Colour") == "colour"
