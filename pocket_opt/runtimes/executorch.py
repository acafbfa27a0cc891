"""ExecuTorch on the CPU, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.whisper.runner.executorch_backend import native_words, open_program
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress

INSTALL = "pip install 'pocket_opt[executorch]'"


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the methods of the program in `artifact`.

    Raises:
        UserError: ExecuTorch is not installed.
        PocketOptError: the program is damaged, or made for a delegate that this build does not have.
    """
    if find_spec("executorch") is None:
        raise UserError(
            "this model runs on ExecuTorch, which is not installed", where="runtime executorch", fix=INSTALL
        )
    try:
        return StandaloneRunner(artifact.root, threads=threads)
    except RequestError as error:
        raise PocketOptError(
            str(error),
            where="runtime executorch",
            fix="build the model again, with this version of ExecuTorch",
        ) from None


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Lower one matrix product to XNNPACK, run it in ExecuTorch and say what ran it; for `doctor`, in a worker."""
    import tempfile
    from importlib.metadata import version
    from pathlib import Path

    import torch

    from pocket_opt.executorch_graphs.lowering import lower

    layer = torch.nn.Linear(2, 2, bias=False)
    layer.weight = torch.nn.Parameter(torch.ones(2, 2))
    ones = torch.ones(1, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.pte"
        report = lower({"forward": torch.export.export(layer, (ones,))}, {}, path)
        [product] = open_program(path).load_method("forward").execute([ones])
    if not torch.equal(product, 2 * ones):
        raise PocketOptError("a matrix product gave a wrong result", fix=f"reinstall it: {INSTALL}")
    with native_words():
        from executorch.extension.pybindings.portable_lib import _threadpool_get_thread_count

        threads = _threadpool_get_thread_count()
    parts = report["forward"]["parts"]
    return f"Linear in {parts} XNNPACK part, executorch {version('executorch')}, {threads} threads"
