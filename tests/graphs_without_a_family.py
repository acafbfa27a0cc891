"""A source model without a family, and graphs that stand for its export but answer with zeros."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper
from optimum_fixtures import bert

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.passes.load_checkpoint import describe

INPUTS = ("input_ids", "attention_mask")
SHAPE = ("batch_size", "sequence_length")


def source(directory: Path) -> Artifact:
    """A BERT with two logits a row."""
    return describe(bert(directory), "random").save()


def zeros(directory: Path, *graphs: str, output: str = "logits") -> Artifact:
    """Graphs that take ids and mask and give zeros `[batch, 2]`."""
    directory.mkdir()
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, SHAPE) for name in INPUTS]
    given = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("batch_size", 2))]
    constants = [
        helper.make_tensor("start", TensorProto.INT64, [1], [0]),
        helper.make_tensor("end", TensorProto.INT64, [1], [2]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("none", TensorProto.FLOAT, [], [0.0]),
    ]
    nodes = [
        helper.make_node("Add", list(INPUTS), ["both"]),
        helper.make_node("Slice", ["both", "start", "end", "axis"], ["two"]),
        helper.make_node("Cast", ["two"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "none"], [output]),
    ]
    graph = helper.make_graph(nodes, "zeros", ports, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    taken = tuple(Port(name, "int64", SHAPE) for name in INPUTS)
    out = (Port(output, "float32", ("batch_size", 2)),)
    components = {}
    for name in graphs:
        onnx.save(model, directory / f"{name}.onnx")
        components[name] = Component("onnx", (f"{name}.onnx",), taken, out)
    return Artifact(directory, components, {"family": "optimum", "runtime": "onnxruntime"}).save()
