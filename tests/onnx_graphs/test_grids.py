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
    scales, points, found = find_grid(blocks, bits, symmetric=symmetric)
    assert found.all()
    assert points.min() >= 0
    assert points.max() <= top
    again = np.clip(np.rint(blocks / scales[:, :, None]) + points[:, :, None], 0, top)
    stored = (again - points[:, :, None]) * scales[:, :, None]
    np.testing.assert_allclose(stored, blocks, rtol=1e-5, atol=1e-8)


def test_the_lowest_level_may_be_positive() -> None:
    blocks = np.array([[[8.0, -7.0, 3.0, 0.0], [-8.0, 7.0, 1.0, 0.0], [8.0, -8.0, 1.0, 0.0]]], np.float32)
    scales, _, found = find_grid(blocks, 4, symmetric=True)
    assert found.tolist() == [[True, True, False]]
    assert scales[0, :2].tolist() == [-1.0, 1.0]


def test_other_weights_lie_on_no_grid() -> None:
    _, _, found = find_grid(RANDOM.standard_normal((50, 4, 16)).astype(np.float32), 4, symmetric=False)
    assert not found.any()


def test_zeros_lie_on_every_grid() -> None:
    scales, points, found = find_grid(np.zeros((1, 2, 16), np.float32), 4, symmetric=True)
    assert found.all()
    assert (scales == 1).all()
    assert (points == 8).all()
