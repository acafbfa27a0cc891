from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.clips import open_planned


def test_a_data_set_that_is_not_the_planned_one_is_refused(data: Path) -> None:
    planned = Dataset.open(data)
    assert open_planned(str(data), planned.digest()) == open_planned(str(data), "") == planned
    with pytest.raises(PocketOptError, match="changed after it was planned with"):
        open_planned(str(data), "0" * 64)
