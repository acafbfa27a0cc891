"""How far to go: by a law whose slope is measured, so that the chance of single words decides little."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest

from pocket_opt.search.extent import MOST_TRIED, Trial, expected, furthest

WORDS = 1700
ERRORS = [0.0, *accumulate(1e-6 * 1.12**place for place in range(90))]
SLOPE = 30.0


def truth(error: float) -> float:
    """Words in % that change."""
    return SLOPE * error**0.5


def reach(limit: float, seed: int, tried: list[int] | None = None) -> int:
    random = np.random.default_rng(seed)

    def try_out(place: int) -> Trial:
        if tried is not None:
            tried.append(place)
        return Trial(ERRORS[place], int(random.poisson(truth(ERRORS[place]) / 100 * WORDS)), WORDS)

    return furthest(ERRORS, limit, try_out)


@pytest.mark.parametrize("limit", [0.3, 0.5, 1.0])
def test_chance_hardly_matters(limit: float) -> None:
    found = [truth(ERRORS[reach(limit, seed)]) for seed in range(50)]
    assert np.median(found) == pytest.approx(limit, rel=0.1)
    assert np.quantile(found, 0.9) < 1.5 * limit


def test_few_variants_are_decoded_and_none_twice() -> None:
    tried: list[int] = []
    reach(0.5, 0, tried)
    assert tried[0] == len(ERRORS) - 1
    assert len(tried) == len(set(tried)) <= MOST_TRIED


def test_where_no_word_changes_the_smallest_is_taken() -> None:
    assert furthest(ERRORS, 0.1, lambda place: Trial(ERRORS[place], 0, WORDS)) == len(ERRORS) - 1


@pytest.mark.parametrize(("limit", "place"), [(-1.0, 0), (0.0, 2)])
def test_without_room_only_what_costs_nothing_is_taken(limit: float, place: int) -> None:
    errors = [0.0, 0.0, 0.0, 1e-4, 2e-4]
    assert furthest(errors, limit, lambda at: Trial(errors[at], 9, 100)) == place


def test_no_moves_need_no_trial() -> None:
    assert furthest([0.0], 1.0, lambda place: pytest.fail(f"{place} was tried")) == 0


def test_what_was_tried_near_by_counts_more() -> None:
    far, near = Trial(1e-1, 50, 1000), Trial(1e-4, 9, 1000)
    assert expected(near.error, [near]) == pytest.approx(0.9)
    pulled = expected(near.error, [near, far])
    assert 0.7 < pulled < 0.9
    assert expected(0.0, [near, far]) == 0
