"""Limits on metrics: which there are, and the verdict on what was measured."""

from __future__ import annotations

import pytest
from variant_fixtures import metric

from pocket_opt.budget import SIZE_LIMITS, check, judge
from pocket_opt.errors import UserError

METRICS = {"quality": {"wer_delta": metric(0.5, "points")}, "size": {"total_mb": metric(10.0, "MB")}}
LIMITS = {*SIZE_LIMITS, "quality.wer", "quality.wer_*", "quality.wer_delta", "memory.peak_mb"}


@pytest.mark.parametrize(
    ("budget", "verdict", "verdicts"),
    [
        ({}, "no_budget", []),
        ({"wer_delta": 0.5}, "within", ["within"]),
        ({"wer_delta": 0.4}, "over_budget", ["over_budget"]),
        ({"wer_delta": 1, "size_mb": 9}, "over_budget", ["within", "over_budget"]),
        ({"size.total_mb": 10, "peak_mb": 5}, "within", ["within", "not_measured"]),
        ({"latency.total_mb": 10}, "no_budget", ["not_measured"]),
    ],
)
def test_the_verdict(budget: dict[str, float], verdict: str, verdicts: list[str]) -> None:
    found = judge(budget, METRICS)
    assert found["verdict"] == verdict
    assert [limit["verdict"] for limit in found["limits"]] == verdicts
    assert all(("value" in limit) == (limit["verdict"] != "not_measured") for limit in found["limits"])


@pytest.mark.parametrize(
    "name",
    ["wer", "wer_delta", "quality.wer", "wer_noisy", "quality.wer_de", "size_mb", "decoder_mb", "peak_mb"],
)
def test_a_metric_is_limited_by_its_name_or_with_its_group(name: str) -> None:
    check({name: 1.0}, LIMITS, where="budget")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("wer_dleta", "wer_delta"),
        ("peak", "peak_mb"),
        ("qualty.wer", "quality"),
        ("quality.wer_dela", "wer_delta"),
        ("totl_mb", "total_mb"),
    ],
)
def test_a_misspelt_metric_is_told(name: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        check({name: 1.0}, LIMITS, where="recipe.budget.HIGH")
    assert f"did you mean '{meant}'?" in caught.value.what
    assert caught.value.where == f"recipe.budget.HIGH.{name}"


def test_a_metric_of_which_more_is_better_has_no_upper_limit() -> None:
    with pytest.raises(UserError, match="no metric that can be limited 'encoder_cosine'"):
        check({"encoder_cosine": 0.9}, LIMITS, where="budget")
