"""What a budget may limit is what the measurements make."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_devices import device_root

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes import MEASUREMENTS, load_pass
from pocket_opt.passes.base import execute

__all__ = ["device_root"]
SHORT: dict[str, dict[str, Any]] = {
    "latency": {"new_tokens": 2, "max_repeats": 1},
    "memory": {"seconds": (1.0,), "new_tokens": 1},
    "parity": {"clips": 1, "max_new_tokens": 2},
    "quality": {"max_new_tokens": 2},
    "on_device": {"max_new_tokens": 2, "address": "ssh:anna@pi", "python": sys.executable},
}


ELSEWHERE = ("graph_latency", "graph_parity", "on_ai_hub")
"""Measured of single graphs; see test_graph_latency, test_graph_parity and test_on_ai_hub."""
OF_SPEECH = [name for name in MEASUREMENTS if load_pass(name).limits and name not in ELSEWHERE]


@pytest.mark.parametrize("name", OF_SPEECH)
def test_every_limit_is_measured(
    name: str, source: Artifact, exported: Artifact, data: Path, tmp_path: Path, device_root: Path
) -> None:
    inputs = {"model": replace(exported, metadata={**exported.metadata, "weights": "pretrained"})}
    if name == "degradation":
        said = _measured("quality", inputs, data, tmp_path / "quality")
        inputs = {"quality": said, "baseline": said}
    elif name == "parity":
        inputs["source"] = source
    table = read_result(_measured(name, inputs, data, tmp_path / "result"))
    limits = [limit.split(".") for limit in load_pass(name).limits if "*" not in limit]
    assert {group for group, _ in limits} == {table["group"]}
    assert {metric for _, metric in limits} <= set(table["metrics"])


def _measured(name: str, inputs: dict[str, Artifact], data: Path, workdir: Path) -> Artifact:
    step = load_pass(name)
    workdir.mkdir()
    own = {"data_path": str(data)} if name in ("quality", "parity", "on_device") else {}
    return execute(step, inputs, step.Params(**own, **SHORT.get(name, {})), workdir).artifact
