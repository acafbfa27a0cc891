"""Properties that an interval must have."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.evaluation.bootstrap import paired_interval, rate_interval


def counts(clips: int, rate: float, seed: int = 1) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 12, clips)
    return generator.binomial(lengths, rate).tolist(), lengths.tolist()


def test_the_interval_holds_the_rate_and_is_always_the_same() -> None:
    errors, lengths = counts(200, 0.1)
    low, high = rate_interval(errors, lengths)
    assert low < 100 * sum(errors) / sum(lengths) < high
    assert rate_interval(errors, lengths) == (low, high)


def test_more_clips_give_a_narrower_interval() -> None:
    widths = [high - low for low, high in (rate_interval(*counts(clips, 0.1)) for clips in (50, 800))]
    assert widths[1] < widths[0] / 2.5


def test_no_errors_and_only_errors_have_no_width() -> None:
    assert rate_interval([0, 0, 0], [4, 5, 6]) == (0, 0)
    assert rate_interval([4, 5, 6], [4, 5, 6]) == (100, 100)


def test_it_covers_the_true_rate_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        low, high = rate_interval(*counts(120, 0.2, seed))
        hits += low <= 20 <= high
    assert 50 <= hits <= 60


def test_pairing_removes_what_both_have_in_common() -> None:
    errors, lengths = counts(200, 0.3)
    worse = [one + (place % 20 == 0) for place, one in enumerate(errors)]
    low, high = paired_interval(worse, errors, lengths)
    alone_low, alone_high = rate_interval(worse, lengths)
    assert 0 < low < 100 * 10 / sum(lengths) < high
    assert high - low < (alone_high - alone_low) / 2


def test_equal_models_differ_by_nothing() -> None:
    errors, lengths = counts(30, 0.2)
    assert paired_interval(errors, errors, lengths) == (0, 0)


def test_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        rate_interval([], [])
