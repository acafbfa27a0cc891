"""Repetition under a budget, with a clock that the test moves."""

from __future__ import annotations

import pytest

from pocket_opt.evaluation.timing import Plan, Sample, Timed, percentile, repeat


class Clock:
    """Time passes only when work is done."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        return self.now

    def work(self) -> Sample:
        self.now += self.seconds
        return {"all": [self.seconds], "step": [0.1, 0.3]}


def timed(seconds: float) -> Timed:
    clock = Clock(seconds)
    return repeat(clock.work, Plan(warmup=2, min_repeats=3, max_repeats=20, max_seconds=10), clock)


@pytest.mark.parametrize(
    ("seconds", "warmups", "repeats"),
    [(0.01, 2, 20), (1, 2, 8), (4, 1, 3), (60, 1, 3)],
)
def test_fast_work_is_repeated_up_to_the_limit_and_slow_work_only_as_often_as_needed(
    seconds: float, warmups: int, repeats: int
) -> None:
    found = timed(seconds)
    assert (len(found.warmups), len(found.samples)) == (warmups, repeats)


def test_without_warmup_the_first_run_counts() -> None:
    clock = Clock(1)
    found = repeat(clock.work, Plan(warmup=0, min_repeats=1, max_repeats=5, max_seconds=3), clock)
    assert (found.warmups, len(found.samples)) == ((), 3)


def test_times_of_a_phase_are_pooled_over_samples() -> None:
    assert timed(4).pooled("step") == [0.1, 0.3] * 3


def test_one_slow_repeat_does_not_move_the_median() -> None:
    assert percentile([1, 1, 1, 1, 100], 50) == 1
    assert percentile([1, 2, 3], 95) == pytest.approx(2.9)
