"""The table of metrics against hypotheses written by hand."""

from __future__ import annotations

import pytest
from handwritten import said

from pocket_opt.evaluation.error_rates import distinct_tokens, groups, quality_metrics
from pocket_opt.evaluation.hypotheses import TRANSCRIBE, TRANSLATE

TABLE = [
    said("one two three four", "one two three four"),
    said("one two three five", "one two nine five", condition="noisy"),
    said("eins zwei", "eins", language="de"),
    said("drei vier", "", language="de"),
    said("", "thank you", condition="nospeech"),
    said("", "", condition="nospeech"),
    said("go go", "go go go go go", condition="noisy"),
    said("three four", "three for", language="de", task=TRANSLATE),
]


def values(*skip: int) -> dict[str, float]:
    rows = [row for place, row in enumerate(TABLE) if place not in skip]
    return {name: metric.value for name, metric in quality_metrics(rows, TRANSCRIBE, "plain").items()}


def test_rates_by_hand() -> None:
    found = values()
    assert found["wer"] == pytest.approx(100 * (0 + 1 + 1 + 2 + 3) / (4 + 4 + 2 + 2 + 2))
    assert found["wer_de"] == pytest.approx(75)
    assert found["wer_en"] == pytest.approx(40)
    assert found["wer_noisy"] == pytest.approx(100 * 4 / 6)
    assert found["wer_en_clean"] == 0
    assert found["wer_translate_de"] == pytest.approx(50)
    assert found["wer_ci_low"] <= found["wer"] <= found["wer_ci_high"]


def test_failures_are_counted_and_do_not_hide_in_averages() -> None:
    found = values()
    assert (found["empty_outputs"], found["looping_outputs"], found["hallucinations"]) == (1, 1, 1)
    assert found["clips"] == 7


def test_clips_without_speech_change_no_rate() -> None:
    assert values()["wer"] == values(4, 5)["wer"]
    assert "hallucinations" not in values(4, 5)


def test_a_group_that_equals_a_larger_one_is_left_out() -> None:
    scored = [row for row in TABLE if row.words and row.task == TRANSCRIBE]
    assert set(groups(scored)) == {"clean", "noisy", "de", "en", "en_clean"}
    assert groups(scored[:1]) == {}


def test_with_only_translation_that_is_the_rate() -> None:
    found = quality_metrics(TABLE[-1:], TRANSLATE, "plain")
    assert found["wer"].value == 50
    assert not any(name.startswith("wer_translate") for name in found)


def test_without_any_reference_there_is_no_rate() -> None:
    assert set(quality_metrics(TABLE[4:6], TRANSCRIBE, "plain")) == {
        "clips",
        "empty_outputs",
        "looping_outputs",
        "hallucinations",
    }


def test_every_metric_says_how_many_and_how() -> None:
    metrics = quality_metrics(TABLE, TRANSCRIBE, "plain")
    assert all(metric.method and metric.unit and metric.n > 0 for metric in metrics.values())
    assert metrics["wer"].n == 5
    assert metrics["wer_de"].n == 2


def test_distinct_tokens() -> None:
    assert distinct_tokens([said("a", "ab"), said("a", "bc")]).value == 3
