"""Linear layers as 1x1 convolutions: how many, the same answers, and what still works on the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import ENCODER_LAYERS, LINEAR, exported, graph, operators, run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shaped
from pocket_opt.onnx_graphs.files import save

STEMS = 2
"""Convolutions of the encoder over frames."""


def test_every_layer_becomes_a_convolution_that_takes_its_bias_in(tmp_path: Path) -> None:
    outcome = run_pass("linear_as_convolution", exported("static"), tmp_path)
    counted = operators(graph(outcome.artifact, "encoder"))
    assert counted["Conv"] == LINEAR["encoder"] + STEMS
    for name in ("encoder", "prefill", "decoder"):
        did = outcome.did["components"][name]
        left = sum(map(len, did["left_out"].values()))
        assert did["tensors"] >= LINEAR[name if name == "encoder" else "decoder"]
        assert operators(graph(outcome.artifact, name))["MatMul"] == left
        assert 0 < did["biases_taken_in"] < did["tensors"]


@pytest.mark.parametrize(("shape", "taken"), [((6,), 1), ((1,), 0), ((1, 6), 0), ((4, 6), 0)])
def test_only_a_vector_of_the_layers_width_is_its_bias(
    shape: tuple[int, ...], taken: int, tmp_path: Path
) -> None:
    """The pass itself compares the answers."""
    random, builder = np.random.default_rng(0), GraphBuilder("one")
    x = builder.input("x", ir.DataType.FLOAT, (1, 4, 8))
    weight, bias = (ir.tensor(random.standard_normal(size).astype(np.float32)) for size in ((8, 6), shape))
    with builder.scope("layer"):
        y = builder.op("MatMul", x, builder.weight("w", weight))
        y = builder.op("Add", y, builder.weight("b", bias))
    builder.output(shaped(y, (1, 4, 6)), "y", (1, 4, 6))
    model = Artifact(tmp_path, {"one": save(builder.build(), tmp_path, "one.onnx")}, {"session": {}})
    outcome = run_pass("linear_as_convolution", model, tmp_path / "made")
    assert outcome.did["components"]["one"]["biases_taken_in"] == taken
    assert operators(graph(outcome.artifact, "one"))["Add"] == 1 - taken


def test_the_result_can_be_quantized(tmp_path: Path) -> None:
    made = run_pass("linear_as_convolution", exported("static"), tmp_path / "conv").artifact
    clips = {"calibration_path": str(Dataset.open("sample:calibration").source), "calibration_clips": 2}
    outcome = run_pass("quantize_qdq", made, tmp_path / "qdq", **clips, least_clips=2)
    assert outcome.did["agreement"]["logits_db"] > 30
    assert operators(graph(outcome.artifact, "encoder"))["Conv"] == LINEAR["encoder"] + STEMS


def test_layers_can_be_left(tmp_path: Path) -> None:
    chosen = {"components": ("encoder",), "exclude": ("*fc2*",)}
    did = run_pass("linear_as_convolution", exported("static"), tmp_path, **chosen).did
    assert len(did["components"]["encoder"]["left_out"]["excluded by pattern"]) == ENCODER_LAYERS


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match=r"'\*fc9\*' matches nothing"):
        run_pass("linear_as_convolution", exported("static"), tmp_path, include=("*fc9*",))
