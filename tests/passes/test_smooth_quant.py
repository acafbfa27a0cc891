"""SmoothQuant: the float model stays the same, and INT8 with one scale a tensor gets nearer to it where it matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import (
    DECODER_LAYERS,
    ENCODER_LAYERS,
    edited,
    exported,
    graph,
    operators,
    outputs,
    run_pass,
)

from pocket_opt import api
from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.onnx_graphs.files import constant, sqnr_db
from pocket_opt.onnx_graphs.smoothing import find_smoothable
from pocket_opt.passes.base import Outcome

LOUD = 7
"""A column of the encoder's norms that the tests make louder."""


def smoothed(model: Artifact, workdir: Path, **params: Any) -> Outcome:
    clips = str(Dataset.open("sample:calibration").source)
    return run_pass("smooth_quant", model, workdir, calibration_path=clips, calibration_clips=2, **params)


def with_outliers(workdir: Path, factor: float) -> Artifact:
    """The exported model, one column of the encoder's norms louder and its weights smaller: the same answers."""

    def change(nodes: ir.Graph) -> None:
        for group in find_smoothable(nodes)[0]:
            for value in (*group.norm.inputs[1:3], *(node.inputs[1] for node in group.layers)):
                assert value is not None
                array = constant(value).copy()
                array[LOUD] *= factor if array.ndim == 1 else 1 / factor
                value.const_value = ir.tensor(array, name=value.name)

    return edited("encoder", workdir, change).save()


def int8_db(model: Artifact, workdir: Path) -> float:
    """The least exact output of the encoder after dynamic_int8, against the float model."""
    quantized = run_pass("dynamic_int8", model, workdir, components=("encoder",)).artifact
    pairs = zip(outputs(exported(), "encoder"), outputs(quantized, "encoder"), strict=True)
    return min(sqnr_db(old, new) for old, new in pairs)


def test_the_float_model_stays_the_same(tmp_path: Path) -> None:
    outcome = smoothed(exported(), tmp_path, components=("encoder", "decoder"))
    for name, norms, layers in (("encoder", 2, 4), ("decoder", 3, 5)):
        for old, new in zip(outputs(exported(), name), outputs(outcome.artifact, name), strict=True):
            assert sqnr_db(old, new) > 90
        assert operators(graph(outcome.artifact, name)) == operators(graph(exported(), name))
        count = ENCODER_LAYERS if name == "encoder" else DECODER_LAYERS
        did = outcome.did["components"][name]
        assert (did["tensors"], did["layers"]) == (norms * count, layers * count)
        assert did["peak_over_median"]["after"] < did["peak_over_median"]["before"]
        assert did["bytes_after"] == pytest.approx(did["bytes_before"], rel=0.02)
    assert outcome.did["clips"] == 2


def test_a_loud_column_no_longer_coarsens_the_others(tmp_path: Path) -> None:
    loud = with_outliers(tmp_path / "loud", 16)
    hurt = int8_db(loud, tmp_path / "hurt")
    healed = int8_db(smoothed(loud, tmp_path / "smooth").artifact, tmp_path / "healed")
    assert healed > hurt + 12
    assert healed > int8_db(exported(), tmp_path / "quiet") - 1


def test_a_graph_without_such_norms_is_refused(tmp_path: Path) -> None:
    quantized = run_pass("dynamic_int8", exported(), tmp_path / "int8").artifact
    with pytest.raises(PocketOptError, match="nothing could be changed in component 'encoder'") as caught:
        smoothed(quantized, tmp_path / "late")
    assert "not only float linear layers read it" in str(caught.value)


def test_it_is_planned_on_request_and_calibrated() -> None:
    words = ["nodes.smooth.pass=smooth_quant", "nodes.smooth.after=fuse"]
    plan = api.plan(overrides=words)
    node = plan.graph["smooth"]
    assert plan.graph["encoder_int8"].inputs["model"] == "smooth"
    assert node.params["alpha"] == 0.5
    assert node.params["calibration_digest"]
    with pytest.raises(UserError, match=r"1\.5 is no share"):
        api.plan(overrides=[*words, "nodes.smooth.params.alpha=1.5"])


def test_outputs_are_finite_for_silent_columns(tmp_path: Path) -> None:
    def change(nodes: ir.Graph) -> None:
        for group in find_smoothable(nodes)[0]:
            for value in group.norm.inputs[1:3]:
                assert value is not None
                array = constant(value).copy()
                array[:2] = 0
                value.const_value = ir.tensor(array, name=value.name)

    model = edited("encoder", tmp_path / "silent", change).save()
    found = smoothed(model, tmp_path / "smooth", alpha=0.9).artifact
    assert all(np.isfinite(array).all() for array in outputs(found, "encoder"))
