"""What the task in the toolchain refuses and what it compares; the rest needs the toolchain (nightly)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from executorch_programs import checkpoint

from pocket_opt.executorch_graphs.layers import read
from pocket_opt.executorch_graphs.lowering import capture
from pocket_opt.executorch_graphs.methods import whisper_methods
from pocket_opt.executorch_graphs.tables import FloatTable
from pocket_opt.models.whisper import runner
from pocket_opt.models.whisper.checkpoint import open_checkpoint
from pocket_opt.toolchains.et_qnn import lower, quantize
from pocket_opt.toolchains.et_qnn.lower import LoweringRefused

CHIP = {"soc_model": 69, "htp_arch": 79, "vtcm_mb": 8}


@pytest.mark.parametrize(
    ("changed", "told", "allowed"),
    [
        ({"soc_model": 1}, "no chip with the number 1", "SM8750 69"),
        ({"soc_model": 0}, "no chip with the number 0", "SM8750 69"),
        ({"vtcm_mb": 4}, "another SM8750", "htp_arch=79, vtcm_mb=8"),
        ({"htp_arch": 75}, "another SM8750", "htp_arch=79, vtcm_mb=8"),
    ],
)
def test_a_chip_is_the_one_that_executorch_compiles_for(
    changed: dict[str, int], told: str, allowed: str
) -> None:
    assert lower._chip(CHIP) == 69
    with pytest.raises(LoweringRefused, match=told) as caught:
        lower._chip({**CHIP, **changed})
    assert allowed in caught.value.allowed


@pytest.mark.parametrize(
    ("parts", "left", "told"),
    [(1, {"aten_add_tensor": 2}, "1 parts: 2 x aten_add"), (2, {}, "2 parts: none"), (0, {}, "0 parts")],
)
def test_a_method_is_one_delegated_part(parts: int, left: dict[str, int], told: str) -> None:
    lower._require_delegated({"encoder": {"parts": 1, "not_delegated": {}}})
    with pytest.raises(LoweringRefused) as caught:
        lower._require_delegated({"decoder": {"parts": parts, "not_delegated": left}})
    assert f"method 'decoder', {told}" in caught.value.where


def test_a_full_disk_leaves_no_half_a_program(tmp_path: Path) -> None:
    full = tmp_path / "model.pte"
    full.symlink_to("/dev/full")
    program = SimpleNamespace(write_to_file=lambda file: file.write(bytes(1_000_000)))
    edge = SimpleNamespace(to_executorch=lambda config: program)
    with pytest.raises(LoweringRefused, match="No space left on device"):
        lower._write(edge, full)
    assert not full.is_symlink()


def test_a_quantized_model_is_compared_with_the_one_in_floats(tmp_path: Path) -> None:
    opened = open_checkpoint(checkpoint().root)
    methods = whisper_methods(opened, FloatTable(read(opened, "decoder.embed_tokens.weight")))
    del methods["mel"]
    floats = {name: capture(method) for name, method in methods.items()}
    features = np.random.default_rng(0).standard_normal((1, *methods["encoder"].inputs[0].shape[1:]))
    clip = tmp_path / "clip.npz"
    np.savez(clip, features=features.astype(np.float32), tokens=np.array([[1, 5, 7, 9]]), prompt=2)
    payload: dict[str, Any] = {
        "ports": {name: method.ports() for name, method in methods.items()},
        "runner": str(Path(runner.__file__).parents[1]),
        "heard": [str(clip)],
    }
    same = quantize.compare(floats, floats, payload)
    assert same["same_choice_percent"] == 100
    assert min(same["encoder_db"], same["logits_db"]) > 100
    lower._require_agreement(same, 15)
    changed = replace(methods["encoder"], module=deepcopy(methods["encoder"].module))
    for number, tensor in enumerate(changed.module.state_dict().values()):
        tensor.mul_(1 + 0.2 * np.sin(number))
    other = quantize.compare(floats, {**floats, "encoder": capture(changed)}, payload)
    assert other["encoder_db"] < 40
    with pytest.raises(LoweringRefused, match="encoder_db") as caught:
        lower._require_agreement(other, 40)
    assert "precision=16a8w" in caught.value.fix
