"""Qualcomm's NPU, or its simulator, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress

PROBED = {"soc_model": 69, "htp_arch": 79}


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the context binaries of `artifact`; UserError where the QNN provider is not installed."""
    require_provider()
    try:
        return StandaloneRunner(artifact.root, threads=threads)
    except RequestError as error:
        raise PocketOptError(
            f"a context binary cannot be loaded: {error}",
            where=str(artifact.root),
            fix="build it again with the onnxruntime-qnn that is installed here; pocket-opt validate finds damage",
        ) from error


def require_provider() -> None:
    """Raise UserError where onnxruntime-qnn is not installed."""
    from importlib.util import find_spec

    if find_spec("onnxruntime_qnn") is None:
        raise UserError(
            "Qualcomm's NPU is reached through onnxruntime-qnn, which is not installed",
            where="runtime qnn",
            allowed="Linux x86-64 with glibc 2.35 or later, Windows",
            fix="pip install 'pocket_opt[snapdragon]'",
        )


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Compile one matrix product for the NPU, run it and say what ran it; for `doctor`, in a worker."""
    import platform
    import tempfile
    from pathlib import Path

    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    from pocket_opt.models.whisper.runner import qnn_backend

    require_provider()
    import onnxruntime_qnn

    square = [8, 8]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "probe", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "probe.onnx")
        onnx.save(model, file)
        session = qnn_backend.open_npu_session(file, qnn_backend.provider_options(PROBED, {}))
        ones = np.ones(square, np.float32)
        (product,) = session.run(None, {"x": ones, "y": ones})
    if not np.allclose(product, 8 * ones, rtol=1e-2):
        raise PocketOptError("a matrix product gave a wrong result", fix="reinstall onnxruntime-qnn")
    simulated = platform.machine().lower() in qnn_backend.SIMULATED
    where = f"the simulator of HTP v{PROBED['htp_arch']}" if simulated else "the NPU"
    return f"MatMul in {where}, onnxruntime-qnn {onnxruntime_qnn.__version__}"
