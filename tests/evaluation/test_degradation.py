"""Paired comparison of two quality measurements made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from handwritten import said

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.degradation import PASS
from pocket_opt.evaluation.error_rates import quality_metrics
from pocket_opt.evaluation.hypotheses import FILE, Hypothesis, write_hypotheses
from pocket_opt.evaluation.quality import random_metrics
from pocket_opt.evaluation.result import read_result, write_result
from pocket_opt.passes.base import NoParams, execute

WORDS = ["one two three four", "five six seven", "eight nine ten", "red green"]


def measurement(
    root: Path, rows: Sequence[Hypothesis], *, random: bool = False, timestamps: bool = False
) -> Artifact:
    root.mkdir()
    write_hypotheses(root, rows)
    metrics = random_metrics(rows) if random else quality_metrics(rows, "transcribe", "plain")
    decoding = {"language": None, "task": "transcribe", "timestamps": timestamps, "max_new_tokens": None}
    return write_result(root, "quality", metrics, {"decoding": decoding, "left_out": {}}, (FILE,)).artifact


def compare(tmp_path: Path, variant: Artifact, baseline: Artifact) -> dict[str, dict[str, float]]:
    workdir = tmp_path / "out"
    workdir.mkdir()
    outcome = execute(PASS, {"quality": variant, "baseline": baseline}, NoParams(), workdir)
    table = read_result(outcome.artifact)
    assert table["group"] == "quality"
    return {**table["metrics"], "changed": table["details"]["changed"]}


def test_a_model_against_itself(tmp_path: Path) -> None:
    rows = [said(words, words.replace("two", "too")) for words in WORDS]
    found = compare(tmp_path, measurement(tmp_path / "a", rows), measurement(tmp_path / "b", rows))
    for name in ("wer_delta", "wer_delta_ci_low", "wer_delta_ci_high", "cer_delta"):
        assert found[name]["value"] == 0
    assert found["tokens_equal"]["value"] == 100
    assert found["changed"] == []


def test_one_word_lost_in_one_clip(tmp_path: Path) -> None:
    better = [said(words, words) for words in WORDS]
    worse = [*better[:3], said("red green", "red")]
    found = compare(tmp_path, measurement(tmp_path / "a", worse), measurement(tmp_path / "b", better))
    assert found["wer_delta"] == pytest.approx(
        {**found["wer_delta"], "value": 100 / 12, "unit": "points", "n": 4}
    )
    assert found["wer_delta_ci_low"]["value"] <= 100 / 12 <= found["wer_delta_ci_high"]["value"]
    assert found["tokens_equal"]["value"] == 75
    assert found["changed"] == [
        {
            "id": "red green.wav",
            "task": "transcribe",
            "reference": "red green",
            "baseline": "red green",
            "variant": "red",
        }
    ]


def test_an_improvement_is_negative(tmp_path: Path) -> None:
    better = [said(words, words) for words in WORDS]
    worse = [said(words, "") for words in WORDS]
    found = compare(tmp_path, measurement(tmp_path / "a", better), measurement(tmp_path / "b", worse))
    assert found["wer_delta"]["value"] == -100


def test_tokens_of_clips_without_speech_count_too(tmp_path: Path) -> None:
    quiet, loud = [said("go", "go"), said("", "")], [said("go", "go"), said("", "thanks")]
    found = compare(tmp_path, measurement(tmp_path / "a", loud), measurement(tmp_path / "b", quiet))
    assert found["tokens_equal"]["value"] == 50
    assert found["wer_delta"]["value"] == 0


def test_random_weights_are_compared_by_tokens_only(tmp_path: Path) -> None:
    rows = [said(words, words) for words in WORDS]
    first, second = (measurement(tmp_path / name, rows, random=True) for name in "ab")
    assert set(compare(tmp_path, first, second)) == {"tokens_equal", "changed"}


def test_other_clips_are_refused_with_an_example(tmp_path: Path) -> None:
    rows = [said(words, words) for words in WORDS]
    first, second = measurement(tmp_path / "a", rows), measurement(tmp_path / "b", rows[:3])
    with pytest.raises(PocketOptError, match="same clips") as caught:
        compare(tmp_path, first, second)
    assert "red green.wav" in str(caught.value)


def test_other_references_and_another_order_are_refused(tmp_path: Path) -> None:
    rows = [said(words, words) for words in WORDS]
    straight, reverse = measurement(tmp_path / "a", rows), measurement(tmp_path / "b", rows[::-1])
    with pytest.raises(PocketOptError, match="another order"):
        compare(tmp_path, straight, reverse)


def test_other_decoding_is_refused(tmp_path: Path) -> None:
    rows = [said(words, words) for words in WORDS]
    plain, timed = measurement(tmp_path / "a", rows), measurement(tmp_path / "b", rows, timestamps=True)
    with pytest.raises(PocketOptError, match="decoded the same way"):
        compare(tmp_path, timed, plain)
