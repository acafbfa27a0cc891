"""Comparisons against values known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from pocket_opt.evaluation.fidelity import IDENTICAL_DB, Comparison


def compare(*pairs: tuple[np.ndarray, np.ndarray]) -> Comparison:
    found = Comparison()
    for reference, other in pairs:
        found.add(reference, other)
    return found


def test_equal_arrays() -> None:
    values = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    found = compare((values, values.copy()))
    assert (found.cosine, found.sqnr_db, found.top1_agreement) == (pytest.approx(1), IDENTICAL_DB, 100)
    assert found.max_error == 0


def test_known_noise_gives_its_ratio() -> None:
    reference = np.ones((1, 100))
    assert compare((reference, reference * 1.01)).sqnr_db == pytest.approx(40)
    assert compare((reference, reference * 1.01)).max_error == pytest.approx(0.01)


def test_orthogonal_and_opposite_vectors() -> None:
    x, y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert compare((x, y)).cosine == 0
    assert compare((x, -x)).cosine == -1


def test_zero_arrays() -> None:
    zero = np.zeros((1, 3))
    assert compare((zero, zero)).cosine == 1
    assert compare((zero, zero + 1)).sqnr_db == -IDENTICAL_DB


def test_sums_over_pairs_equal_one_long_pair() -> None:
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((6, 5))
    other = reference + 0.1 * generator.standard_normal((6, 5))
    whole, parts = (
        compare((reference, other)),
        compare((reference[:2], other[:2]), (reference[2:], other[2:])),
    )
    assert (parts.cosine, parts.sqnr_db) == (pytest.approx(whole.cosine), pytest.approx(whole.sqnr_db))
    assert (parts.rows, parts.count) == (6, 30)


def test_top_choice_is_counted_by_row() -> None:
    found = compare((np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[5.0, 6.0], [0.0, 1.0]])))
    assert found.top1_agreement == 50


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        compare((np.zeros((1, 2)), np.zeros((1, 3))))
