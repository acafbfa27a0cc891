"""16-bit constants in OpenVINO models: half the size, answers kept, also beside integer weights."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest
from exported_whisper import digests, run_pass
from openvino_models import converted, kernels

from pocket_opt.errors import PocketOptError
from pocket_opt.openvino_graphs.files import constants, read


def test_half_the_size(tmp_path: Path) -> None:
    outcome = run_pass("store_fp16_openvino", converted(), tmp_path)
    for name in ("encoder", "decoder"):
        weights = outcome.artifact.root / f"{name}.bin"
        assert weights.stat().st_size < 0.52 * (converted().root / f"{name}.bin").stat().st_size
        assert constants(read(outcome.artifact.path(name)))["f32"] == 0
        assert outcome.artifact.components[name].inputs == converted().components[name].inputs
        assert kernels(outcome.artifact, name)["Convert"] <= kernels(converted(), name)["Convert"]
    assert digests(outcome.artifact)["mel.bin"] == digests(converted())["mel.bin"]


def test_sinusoidal_positions_are_computed_and_not_stored(tmp_path: Path) -> None:
    outcome = run_pass("store_fp16_openvino", converted(), tmp_path)
    counts = {name: part["computed"] for name, part in outcome.did["components"].items()}
    assert counts == {"encoder": 1, "decoder": 0}
    assert "Sin" not in kernels(outcome.artifact, "encoder")


def test_beside_integer_weights(tmp_path: Path) -> None:
    compressed = run_pass("compress_weights_openvino", converted(), tmp_path / "int8").artifact
    outcome = run_pass("store_fp16_openvino", compressed, tmp_path / "fp16")
    assert outcome.did["bytes_after"] < outcome.did["bytes_before"]
    for name in ("encoder", "decoder"):
        before, after = (constants(read(one.path(name))) for one in (compressed, outcome.artifact))
        assert after["i8"] == before["i8"] > 0


def test_what_16_bits_cannot_hold_stays(tmp_path: Path) -> None:
    from pocket_opt.passes.store_fp16_openvino import halve

    model = read(converted().path("encoder"))
    table = next(node for node in model.get_ordered_ops() if _is_matrix(node))
    huge = ov.opset13.constant(table.data * 1e9)
    for reader in list(table.output(0).get_target_inputs()):
        reader.replace_source_output(huge.output(0))
    assert halve(model)["too_large_for_16_bits"] == 1


def test_twice_is_a_failure(tmp_path: Path) -> None:
    once = run_pass("store_fp16_openvino", converted(), tmp_path / "once").artifact
    with pytest.raises(PocketOptError, match="nothing of component 'encoder' could be stored in 16 bits"):
        run_pass("store_fp16_openvino", once, tmp_path / "twice")


def _is_matrix(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant" and len(node.shape) == 2 and node.get_byte_size() > 4096
