"""Weights on a grid betray it, whichever levels are used; others do not pass for such."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.onnx_graphs.grids import find_grid

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("used", [1.0, 0.6, 0.3])
def test_weights_on_a_grid_are_stored_exactly(bits: int, symmetric: bool, used: float) -> None:
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    zeros = np.full((6, 3, 1), half) if symmetric else RANDOM.integers(0, top + 1, (6, 3, 1))
    spread = int(used * top)
    low = np.clip(zeros - spread // 2, 0, top - spread)
    levels = low + RANDOM.integers(0, spread + 1, (6, 3, 32))
    steps = RANDOM.uniform(0.001, 0.1, (6, 3, 1)).astype(np.float32)
    blocks = ((levels - zeros) * steps).astype(np.float32) * np.float32(0.17677669)
    grid = find_grid(blocks, bits, symmetric=symmetric)
    assert grid.found.all()
    assert grid.zeros.min() >= 0
    assert grid.zeros.max() <= top
    again = np.clip(np.rint(blocks / grid.scales[:, :, None]) + grid.zeros[:, :, None], 0, top)
    stored = (again - grid.zeros[:, :, None]) * grid.scales[:, :, None]
    np.testing.assert_allclose(stored, blocks, rtol=1e-5, atol=1e-8)


def test_the_lowest_level_may_be_positive() -> None:
    blocks = np.array([[[8.0, -7.0, 3.0, 0.0], [-8.0, 7.0, 1.0, 0.0], [8.0, -8.0, 1.0, 0.0]]], np.float32)
    grid = find_grid(blocks, 4, symmetric=True)
    assert grid.found.tolist() == [[True, True, False]]
    assert grid.scales[0, :2].tolist() == [-1.0, 1.0]


def test_other_weights_lie_on_no_grid() -> None:
    grid = find_grid(RANDOM.standard_normal((50, 4, 16)).astype(np.float32), 4, symmetric=False)
    assert not grid.found.any()


def test_zeros_lie_on_every_grid() -> None:
    grid = find_grid(np.zeros((1, 2, 16), np.float32), 4, symmetric=True)
    assert grid.found.all()
    assert (grid.scales == 1).all()
    assert (grid.zeros == 8).all()
