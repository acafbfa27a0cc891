"""The checks after a rewrite: each finds the damage it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import edited, exported

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs import checks as onnx_checks

WEIGHT = "model.encoder.layers.1.fc1.weight"


def scale_weight(factor: float) -> Callable[[ir.Graph], None]:
    def change(nodes: ir.Graph) -> None:
        value = nodes.initializers[WEIGHT]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=WEIGHT)

    return change


def one_nan(nodes: ir.Graph) -> None:
    scale_weight(1)(nodes)
    tensor = nodes.initializers[WEIGHT].const_value
    assert tensor is not None
    tensor.numpy()[3, 2] = np.nan


def overflow(nodes: ir.Graph) -> None:
    for name in (WEIGHT, WEIGHT.replace("fc1", "fc2")):
        value = nodes.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1e30), name=name)


def unknown_operator(nodes: ir.Graph) -> None:
    nodes[0].op_type = "Convolute"


def foreign_operator(nodes: ir.Graph) -> None:
    nodes[0].domain = "ai.example"
    nodes.opset_imports["ai.example"] = 1


def check(after: Artifact, least_db: float = 20) -> None:
    onnx_checks.check_rewrite(exported(), after, ("encoder",), least_db=least_db)


def test_an_equal_graph_passes_and_a_near_one_is_measured(tmp_path: Path) -> None:
    check(exported(), least_db=float("inf"))
    near = edited("encoder", tmp_path, scale_weight(1.01))
    check(near)
    assert 20 < onnx_checks.agreement_db(exported(), near, "encoder") < 60
    with pytest.raises(PocketOptError, match="no longer agrees"):
        check(near, least_db=60)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (scale_weight(-1), "no longer agrees with its input: SQNR .* dB"),
        (one_nan, f"weight '{WEIGHT}' of component 'encoder' is not finite"),
        (overflow, "an output of component 'encoder' is no longer finite"),
        (unknown_operator, "component 'encoder' is not valid ONNX"),
        (foreign_operator, "ONNX Runtime .* cannot load component 'encoder'"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, damage: Callable[[ir.Graph], None], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        check(edited("encoder", tmp_path, damage))


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (Port("hidden", "float32", ("batch", 200, 64)),),
        (Port("encoder_hidden", "float16", ("batch", 200, 64)),),
    ],
)
def test_another_port_is_refused(outputs: tuple[Port, ...]) -> None:
    before = Component("onnx", ("x",), (), (Port("encoder_hidden", "float32", ("batch", 200, 64)),))
    onnx_checks.check_ports(before, before, "encoder")
    with pytest.raises(PocketOptError, match="the ports of component 'encoder' changed"):
        onnx_checks.check_ports(before, replace(before, outputs=outputs), "encoder")


def test_large_components_are_loaded_but_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_checks, "COMPARE_BELOW", 1000)
    check(edited("encoder", tmp_path / "a", scale_weight(-1)))
    with pytest.raises(PocketOptError, match="cannot load"):
        check(edited("encoder", tmp_path / "b", foreign_operator))


def test_inputs_are_random_but_repeatable_and_agree_on_dimensions() -> None:
    part = exported().components["decoder"]
    first, second = onnx_checks.random_inputs(part), onnx_checks.random_inputs(part)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["tokens"].shape == (1, 4)
    assert first["past_key_0"].shape == first["past_value_1"].shape == (1, 4, 5, 16)
    assert first["tokens"].dtype == np.int64
