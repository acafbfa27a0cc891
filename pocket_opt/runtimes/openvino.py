"""OpenVINO on the CPU, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the models `mel`, `encoder` and `decoder` of `artifact`; UserError where OpenVINO is not installed."""
    if find_spec("openvino") is None:
        raise UserError(
            "this model runs on OpenVINO, which is not installed",
            where="runtime openvino",
            fix="pip install 'pocket_opt[openvino]'",
        )
    return StandaloneRunner(artifact.root, threads=threads)


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Run one matrix product through OpenVINO and say what ran it; for `doctor`, in a worker."""
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    square = ops.parameter([2, 2], np.float32)
    model = openvino.Model([ops.matmul(square, square, False, False)], [square])
    core = openvino.Core()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ones = np.ones((2, 2), np.float32)
    if not np.array_equal(compiled(ones)[0], 2 * ones):
        raise PocketOptError("a matrix product gave a wrong result", fix="reinstall openvino")
    version = openvino.get_version().split("-")[0]
    own = core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
    return f"MatMul on CPU, openvino {version}; by itself it would compute in {own}"
