"""What was planned with is what is read, or the difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_inputs import write_clips

from pocket_opt.data.dataset import Dataset
from pocket_opt.data.planned import open_planned
from pocket_opt.errors import PocketOptError


def test_a_data_set_that_is_not_the_planned_one_is_refused(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "clips")
    planned = Dataset.open(data)
    assert open_planned(str(data), planned.digest()) == open_planned(str(data), "") == planned
    with pytest.raises(PocketOptError, match="changed after it was planned with"):
        open_planned(str(data), "0" * 64)
