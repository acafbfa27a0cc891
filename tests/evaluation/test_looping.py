"""What counts as a loop, and what does not."""

from __future__ import annotations

import pytest

from pocket_opt.evaluation.looping import compression_ratio, is_looping


@pytest.mark.parametrize(
    "text",
    [
        "the the the the",
        "turn on the light the light the light the light",
        "please one two three one two three one two three one two three now",
        "thank you for watching " * 12,
    ],
)
def test_repetition_is_a_loop(text: str) -> None:
    assert is_looping(text.strip())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "go",
        "no no no",
        "call anna and call anna and call anna",
        "turn on the light in the kitchen and turn off the light in the bedroom at ten",
    ],
)
def test_ordinary_speech_is_not(text: str) -> None:
    assert not is_looping(text)


def test_a_reference_that_repeats_excuses_its_hypothesis() -> None:
    assert is_looping("row row row row your boat")
    assert not is_looping("row row row row your boat", reference="row row row row your boat")


def test_repetition_compresses() -> None:
    assert compression_ratio("thank you " * 40) > 2.4 > compression_ratio("turn on the light in the kitchen")
    assert compression_ratio("") == 0
