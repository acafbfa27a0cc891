"""Peak memory of fresh processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.memory import PASS, MemoryParams, measure_peak
from pocket_opt.evaluation.memory_probe import peak_bytes
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def test_each_length_has_its_peak_and_the_largest_is_the_peak(exported: Artifact, tmp_path: Path) -> None:
    settings = MemoryParams(new_tokens=4, threads=1)
    found = read_result(execute(PASS, {"model": exported}, settings, tmp_path).artifact)["metrics"]
    lengths = [found[name]["value"] for name in ("peak_mb_1s", "peak_mb_4s", "peak_mb_8s")]
    assert all(20 < peak < 2000 for peak in lengths)
    assert found["peak_mb"]["value"] == max(lengths)
    assert lengths[2] > 0.9 * lengths[0]


def test_long_audio_needs_more_than_short(exported: Artifact) -> None:
    short, long = (
        measure_peak(exported, seconds, MemoryParams(new_tokens=2, threads=1)) for seconds in (1, 600)
    )
    assert long - short > 300 * 16_000 * 4 / 1e6


def test_a_large_parent_is_not_taken_for_the_child(exported: Artifact) -> None:
    ballast = np.ones(100_000_000)
    assert peak_bytes() > ballast.nbytes
    assert measure_peak(exported, 1.0, MemoryParams(new_tokens=2, threads=1)) < ballast.nbytes / 1e6
