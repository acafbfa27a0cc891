"""The written form of a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.result import Metric, read_result, write_result


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    outcome = write_result(tmp_path, "quality", {"wer": Metric(3.5, "%", 226, "jiwer")}, {"why": "ü"})
    outcome.artifact.save()
    table = read_result(Artifact.load(tmp_path))
    assert table["group"] == "quality"
    assert table["metrics"] == {"wer": {"value": 3.5, "unit": "%", "n": 226, "method": "jiwer"}}
    assert table["details"] == {"why": "ü"}
    assert outcome.did["wer"] == 3.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_an_error_that_names_it(tmp_path: Path, value: float) -> None:
    with pytest.raises(PocketOptError, match="not a finite number") as caught:
        write_result(tmp_path, "latency", {"rtf": Metric(value, "", 1, "")}, {})
    assert "rtf" in str(caught.value)
    assert not list(tmp_path.iterdir())
