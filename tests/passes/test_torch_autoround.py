"""AutoRound on the PyTorch model: learns which way to round, and ends on the grid."""

from __future__ import annotations

from pathlib import Path

import pytest
from rounded_whisper import check_rounding


@pytest.mark.nightly
def test_weights_lie_on_the_grid(tmp_path: Path) -> None:
    pytest.importorskip("auto_round", reason="auto-round is not installed")
    changed = check_rounding("torch_autoround", tmp_path, iterations=2)
    assert all(value.ndim == 2 for value in changed.values())
