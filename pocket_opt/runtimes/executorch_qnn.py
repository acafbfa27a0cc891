"""ExecuTorch with Qualcomm's delegate, in its toolchain's environment; on this machine the NPU is simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.method_backend import MethodBackend, MethodSession, program_file
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.runtimes.remote_program import BUILD_AGAIN, TOOLCHAIN, RemoteProgram
from pocket_opt.runtimes.standalone import StandaloneRunner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pocket_opt.artifact import Artifact
    from pocket_opt.models.whisper.runner.whisper import Backend
    from pocket_opt.passes.base import Progress

PROBED = {
    "precision": "fp16",
    "soc_model": 69,
    "htp_arch": 79,
    "vtcm_mb": 8,
    "ports": {},
    "host": [],
    "constants": {},
    "probes": {},
}
"""What the toolchain is told of the probe, see `toolchains/et_qnn/lower.py`."""


class SimulatedRunner(StandaloneRunner):
    """The stand-alone runner; another process runs the program."""

    def _open(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:  # noqa: ARG002
        parts = table["components"]
        file, names = program_file(directory, parts)
        program = RemoteProgram(file)
        sessions = {name: MethodSession(name, program.load_method(name), parts[name]) for name in names}
        self._backend = cast("Backend", MethodBackend(sessions))


def open_model(artifact: Artifact, *, threads: int = 0) -> StandaloneRunner:
    """Open the program in `artifact`.

    Raises:
        UserError: the toolchain is not installed.
        PocketOptError: the program is damaged, or made for other libraries.
    """
    try:
        return SimulatedRunner(artifact.root, threads=threads)
    except RequestError as error:
        raise PocketOptError(str(error), where="runtime executorch_qnn", fix=BUILD_AGAIN) from None


def probe(payload: Mapping[str, Any], progress: Progress) -> str:  # noqa: ARG001  (a worker task)
    """Lower one matrix product to the NPU, run it in the simulator and say what ran it; for `doctor`, in a worker."""
    import torch

    from pocket_opt.qnn.libraries import libraries
    from pocket_opt.scratch import scratch
    from pocket_opt.toolchains import load_toolchain
    from pocket_opt.toolchains.environments import call, require

    toolchain = load_toolchain(TOOLCHAIN)
    layer = torch.nn.Linear(32, 32, bias=False)
    layer.weight = torch.nn.Parameter(torch.ones(32, 32))
    ones = torch.ones(1, 32)
    with scratch("probe") as place, libraries(require(toolchain)) as env:
        captured, program = place / "forward.pt2", place / "probe.pte"
        torch.export.save(torch.export.export(layer, (ones,)), captured)
        told = {"programs": {"forward": str(captured)}, "output": str(program), **PROBED}
        report = call(toolchain, "lower:lower", told, env=env).value
        [product] = RemoteProgram(program).load_method("forward")([ones])
    if not torch.equal(product, 32 * ones):
        raise PocketOptError(
            "a matrix product gave a wrong result",
            fix="run `pocket-opt toolchain remove et_qnn`, then install",
        )
    version = report["versions"]["executorch"]
    return f"Linear in the simulator of SM8750, executorch {version}, QNN {report['libraries']}"
