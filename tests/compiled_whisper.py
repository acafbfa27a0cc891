"""A small random Whisper compiled for a Snapdragon's NPU, and graphs to plant in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import onnx
from exported_whisper import exported, run_pass
from onnx import TensorProto, helper

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.passes.base import Outcome

ELITE = {"chip": "SM8750", "soc_model": 69, "htp_arch": 79, "vtcm_mb": 8}
GEN3 = {"chip": "SM8650", "soc_model": 57, "htp_arch": 75, "vtcm_mb": 8}


@cache
def static() -> Artifact:
    """Graphs of static shapes, one layer each."""
    return exported("static", 1, 1)


@cache
def quantized() -> Artifact:
    """The same with 4-bit weights and 16-bit activations, calibrated on two clips."""
    clips = str(Dataset.open("sample:calibration").source)
    heard = {"calibration_path": clips, "calibration_clips": 2, "least_clips": 2}
    return run_pass("quantize_qdq", static(), Path(mkdtemp(prefix="quantized-")), weights=4, **heard).artifact


@cache
def compiled() -> Outcome:
    """Its context binaries, read-only, as in a store."""
    outcome = run_pass("compile_qnn", static(), Path(mkdtemp(prefix="compiled-")), **ELITE)
    for part in outcome.artifact.components.values():
        for name in part.files:
            (outcome.artifact.root / name).chmod(0o444)
    return outcome


def planted(workdir: Path, *operators: str) -> Artifact:
    """The static graphs with `operators` one after the other behind the encoder's first output."""
    artifact = static().carry(workdir, without=("encoder",))
    model = onnx.load(static().path("encoder"))
    name = model.graph.output[0].name
    for node in model.graph.node:
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = "before_planted"
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = "before_planted"
    last = "before_planted"
    for index, operator in enumerate(operators):
        new = name if index == len(operators) - 1 else f"planted_{index}"
        model.graph.node.append(helper.make_node(operator, [last], [new], name=f"planted/{operator}"))
        last = new
    onnx.save(model, workdir / "encoder.onnx")
    return artifact.with_component("encoder", static().components["encoder"])


def one_node(path: Path, operator: str, shape: list[int | str], **attributes: Any) -> Path:
    """A graph of one node on floats, saved at `path`."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    node = helper.make_node(operator, ["x"], ["y"], name=f"only/{operator}", **attributes)
    graph = helper.make_graph([node], "one", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path
