"""The comparison of one file with the host loop runs on the sample model."""

from __future__ import annotations

import re

import all_in_one
import pytest


@pytest.mark.nightly
def test_both_are_timed_and_weighed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "pocket_whisper", "--level", "MEDIUM", "--tokens", "8", "--rounds", "2"]
    assert all_in_one.main([*words, "recipe.model.weights=pretrained"]) == 0
    said = capsys.readouterr().out
    time, size = re.search(r"ratio +([\d.]+) +([\d.]+)", said).groups()  # type: ignore[union-attr]
    assert float(time) > 0
    assert 0.9 < float(size) < 1
