"""Ranges: what is masked does not count, rare values cost the others nothing, and zero keeps a level."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.onnx_graphs.ranges import Array, Grid, Method, Spread


def spread_of(*arrays: Array) -> Spread:
    """All that a graph would tell of `arrays`."""
    found = Spread()
    for array in arrays:
        shown = array[array > -10_000] if (array > -10_000).any() else array
        found.see(float(shown.min()), float(array.max()), float(array.min()), array)
    return found


def error(array: Array, spread: Spread, method: Method, bits: int = 8) -> float:
    grid = Grid.over(*spread.range(method, bits, 99.9), bits)
    levels = grid.levels(array).astype(np.float32)
    return float(np.square((levels - grid.zero_point) * grid.scale - array).mean())


def test_a_histogram_grows_with_what_it_sees_and_loses_nothing() -> None:
    random = np.random.default_rng(0)
    parts = [scale * random.standard_normal(1000).astype(np.float32) for scale in (0.1, 1, 30, 2)]
    apart, other = spread_of(*parts[:2]), spread_of(*parts[2:])
    apart.merge(other)
    together = spread_of(*parts)
    assert together.counts.sum() == apart.counts.sum() == 4000
    assert np.array_equal(apart.counts, together.counts)
    values = np.concatenate(parts)
    assert together.range("minmax", 8, 100) == (values.min(), values.max())
    assert together.range("percentile", 8, 50) == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=0.15)


def test_masked_scores_do_not_count() -> None:
    scores = np.array([-3, 2, -60_000, 1.5], np.float32)
    found = spread_of(scores, np.full(4, -60_000, np.float32))
    assert (found.low, found.high, found.masked) == (-3, 2, True)
    assert found.counts.sum() == 3
    assert found.range("minmax", 16, 100) == pytest.approx((-3.625, 2.625))  # with headroom
    assert spread_of(np.full(4, -60_000, np.float32)).range("minmax", 16, 100) == (0, 0)


def test_rare_values_cost_less_with_the_least_squared_error() -> None:
    values = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    values[7] = 10
    found = spread_of(values)
    assert error(values, found, "mse", 4) < 0.5 * error(values, found, "minmax", 4)
    assert error(values, found, "mse", 4) < error(values, found, "percentile", 4)
    flat = np.linspace(-1, 1, 5000, dtype=np.float32)
    assert found.range("mse", 16, 100)[1] == pytest.approx(10)
    assert spread_of(flat).range("mse", 8, 100) == pytest.approx((-1, 1), abs=0.05)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_zero_has_a_level_and_the_ends_are_met(bits: int, low: float, high: float) -> None:
    grid = Grid.over(low, high, bits)
    levels = grid.levels(np.array([0, low, high, 1e9, -1e9], np.float32)).astype(np.int64)
    found = (levels - grid.zero_point) * grid.scale
    assert found[0] == 0
    assert found[1:3] == pytest.approx([low, high], abs=float(grid.scale))
    assert (levels[3], levels[4]) == (2**bits - 1, 0)
