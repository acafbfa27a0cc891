"""PyTorch's lite interpreter, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.all_in_one import COMPONENT
from pocket_opt.models.whisper.runner.torchscript_backend import method, open_program
from pocket_opt.models.whisper.runner.torchscript_listener import Listener
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pocket_opt.artifact import Artifact
    from pocket_opt.passes.base import Progress


class ListenerRunner(StandaloneRunner, Listener):
    """The same for a program with the loop inside."""


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the methods of the program in `artifact`; PocketOptError where it is damaged."""
    runner = ListenerRunner if COMPONENT in artifact.components else StandaloneRunner
    try:
        return runner(artifact.root, threads=threads)
    except RequestError as error:
        raise PocketOptError(
            str(error),
            where="runtime torchscript",
            fix="build the model again, with this version of PyTorch",
        ) from None


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Write one matrix product as a program, run it in the lite interpreter and say what ran it; for `doctor`."""
    import tempfile
    from importlib.metadata import version
    from pathlib import Path

    import torch

    from pocket_opt.torchscript_graphs.program import can_prepack, write

    layer = torch.nn.Linear(2, 2, bias=False)
    layer.weight = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    ones = torch.ones(1, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.ptl"
        write(torch.jit.script(layer.eval()), path, prepack=False, names=["forward"])
        [product] = method(open_program(path), "forward")([ones])
    if not torch.equal(product, 2 * ones):
        raise PocketOptError("a matrix product gave a wrong result", fix="reinstall it: pip install torch")
    packs = "with" if can_prepack() else "without"
    return f"Linear in the lite interpreter, torch {version('torch')}, {packs} XNNPACK"
