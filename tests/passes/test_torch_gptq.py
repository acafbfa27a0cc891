"""GPTQ on the PyTorch model: a grid that the quantizer of the graphs keeps, and refusals that say what to do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from exported_whisper import exported, run_pass
from rounded_whisper import check_rounding, source

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes import load_pass


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_graphs_keep_the_grid(tmp_path: Path, symmetric: bool) -> None:
    changed = check_rounding("torch_gptq", tmp_path, symmetric=symmetric)
    assert all(name.endswith("weight") and value.ndim == 2 for name, value in changed.items())
    assert not [name for name in changed if "embed" in name or "conv" in name]


def test_an_exported_model_is_too_late(tmp_path: Path) -> None:
    pytest.importorskip("cpuinfo")
    with pytest.raises(PocketOptError, match="before it is exported") as caught:
        run_pass("torch_gptq", exported(), tmp_path / "out")
    assert "after=source" in caught.value.fix


def test_blocks_must_divide_the_layers(tmp_path: Path) -> None:
    pytest.importorskip("cpuinfo")
    with pytest.raises(PocketOptError, match="blocks of 256 do not divide d_model 64"):
        run_pass("torch_gptq", source(tmp_path), tmp_path / "out", block_size=256)


@pytest.mark.parametrize("name", ["torch_gptq", "torch_awq", "torch_autoround"])
def test_what_is_not_installed_is_named_when_planning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(wanted: str, *rest: Any) -> Any:
        return None if wanted in ("neural_compressor", "auto_round") else found(wanted, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    step = load_pass(name)
    with pytest.raises(UserError, match="neural_compressor.* is not installed") as caught:
        step.check(step.Params())
    assert 'pip install "pocket_opt[neural_compressor]"' in caught.value.fix
    assert step.calibrates(step.Params())
