"""ONNX Runtime on the CPU, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.all_in_one import COMPONENT, AllInOne
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress


class AllInOneRunner(StandaloneRunner, AllInOne):
    """The same for a model that is one graph."""


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the graphs `mel`, `encoder` and `decoder` of `artifact`, or the one that does it all."""
    runner = AllInOneRunner if COMPONENT in artifact.components else StandaloneRunner
    return runner(artifact.root, threads=threads)


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Run one matrix product through ONNX Runtime and say what ran it; for `doctor`, in a worker."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    square = [2, 2]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "probe", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ones = np.ones(square, np.float32)
    (product,) = session.run(None, {"x": ones, "y": ones})
    if not np.array_equal(product, 2 * ones):
        raise PocketOptError("a matrix product gave a wrong result", fix="reinstall onnxruntime")
    return f"MatMul on {session.get_providers()[0]}, onnxruntime {onnxruntime.__version__}"
