"""Write a Whisper checkpoint as one ExecuTorch program for a Qualcomm NPU (HTP), by the delegate for it.

Applies to a source artifact (`load_source`, `random_weights`). Methods are captured here by torch.export, and quantized
and lowered in the toolchain `et_qnn` (`pocket-opt toolchain install et_qnn`), because the delegate works with libraries
of one version only, or in QNN_SDK_ROOT's own. `encoder` and `decoder` are delegated as a whole, or the build fails and
names the operators; `mel` stays on the CPU, with XNNPACK. Integers are calibrated: the source model transcribes clips,
and the methods say its words again, token by token through their own caches. Costs a minute at small sizes. The program
is run in Qualcomm's simulator and compared with the graphs that it was made of, up to `simulate_below` products a call.
Source: docs.pytorch.org/executorch, Qualcomm AI Engine backend.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pocket_opt.executorch_graphs.fixed_shapes import require_full_context
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, neutral, positive
from pocket_opt.qnn.chip import ChipParams, check_chip
from pocket_opt.qnn.sdk import ROOT, find_sdk
from pocket_opt.toolchains import load_toolchain
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.executorch_graphs.methods import Method
    from pocket_opt.models.whisper.checkpoint import Checkpoint

TOOLCHAIN = "et_qnn"
RUNTIME, FILE = "executorch_qnn", "model.pte"
LEAST_DB = {"fp16": 30.0, "16a8w": 25.0, "8a8w": 15.0, "8a8w_linear": 15.0}
"""Agreement of the simulated program with the graph before it was lowered, below which it is wrong."""
LEAST_HEARD_DB = {"16a8w": 15.0, "8a8w": 3.0, "8a8w_linear": 6.0}
"""Agreement of that graph with the one in floats, on calibration clips, below which it is wrong, not only inexact."""


@dataclass(frozen=True)
class ExportExecutorchQnnParams(Calibrated, ChipParams):
    """For what, and in which numbers.

    Attributes:
        precision: `fp16`; `16a8w`: 16-bit activations, 8-bit weights of linear layers and convolutions per output
            channel; `8a8w`: all activations in 8 bits; `8a8w_linear`: those of linear layers and convolutions alone.
        calibration_clips: how many are heard, spread evenly over the data set.
        simulate_below: products in one call of a method up to which the check runs it; 0 runs none.
        audio_context: only `full`: the encoder's shapes are fixed.
    """

    precision: Literal["fp16", "16a8w", "8a8w", "8a8w_linear"] = "fp16"
    calibration_clips: int = positive(16)
    simulate_below: float = neutral(4e9)
    audio_context: Literal["full", "auto"] = "full"


class ExportExecutorchQnn(Pass[ExportExecutorchQnnParams]):
    """Captures, lets the toolchain quantize and lower, and runs the result in the simulator."""

    version = 1
    Params = ExportExecutorchQnnParams
    tools = ("torch", "numpy")
    toolchain = TOOLCHAIN

    def found_tools(self) -> Mapping[str, str]:
        """The version of the user's own SDK, where there is one: its libraries are used then."""
        return {"qairt": find_sdk().version} if os.environ.get(ROOT) else {}

    def check(self, params: ExportExecutorchQnnParams) -> None:
        """The chip is known, and windows are whole."""
        require_full_context(params.audio_context)
        check_chip(params)

    def calibrates(self, params: ExportExecutorchQnnParams) -> bool:
        """Where activations have fixed scales."""
        return params.precision != "fp16"

    def requires(self, inputs: Inputs, params: ExportExecutorchQnnParams) -> None:  # noqa: ARG002
        """The toolchain is installed, its libraries can be found, and the checkpoint is a complete Whisper."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.qnn.libraries import libraries
        from pocket_opt.toolchains.environments import require

        open_checkpoint(inputs["model"].root)
        with libraries(require(load_toolchain(TOOLCHAIN))):
            pass

    def run(
        self, inputs: Inputs, params: ExportExecutorchQnnParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the program, and compare each method with the graph that it was made of."""
        from pocket_opt.executorch_graphs.lowering import shares
        from pocket_opt.executorch_graphs.methods import constants, described
        from pocket_opt.executorch_graphs.qualcomm import compare, lower
        from pocket_opt.models.layout import GENERATION_CONFIG
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.runtimes.calibration import heard_of
        from pocket_opt.scratch import scratch

        source = inputs["model"]
        checkpoint = open_checkpoint(source.root)
        methods = _methods(checkpoint)
        generation = json.loads(source.file("model", GENERATION_CONFIG).read_text(encoding="utf-8"))
        told = {
            "output": str(workdir / FILE),
            "soc_model": params.soc_model,
            "htp_arch": params.htp_arch,
            "vtcm_mb": params.vtcm_mb,
            "precision": params.precision,
            "least_heard_db": LEAST_HEARD_DB.get(params.precision),
            "constants": constants(checkpoint.dims, generation),
        }
        with scratch("et_qnn") as place:
            clips = params.calibration_clips
            heard = heard_of(source, params, clips, progress).heard if self.calibrates(params) else []
            report = lower(load_toolchain(TOOLCHAIN), methods, heard, told, place, progress)
            simulated = compare(
                methods,
                workdir / FILE,
                place,
                least_db=LEAST_DB[params.precision],
                simulate_below=params.simulate_below,
            )
        about = {"chip": params.chip, "soc_model": params.soc_model, "libraries": report["libraries"]}
        artifact = described(source, methods, workdir / FILE, RUNTIME)
        artifact = replace(artifact, metadata={**artifact.metadata, "qnn": about})
        did = {"bytes": artifact.size("decoder"), **shares(report["methods"]), "simulated_db": simulated}
        return Outcome(artifact, {**did, **report})

    def ensures(self, inputs: Inputs, params: ExportExecutorchQnnParams, outcome: Outcome) -> None:
        """Nothing: `run` compared the program while the answers of the graphs were at hand."""


def _methods(checkpoint: Checkpoint) -> dict[str, Method]:
    from pocket_opt.executorch_graphs.layers import read
    from pocket_opt.executorch_graphs.methods import whisper_methods
    from pocket_opt.executorch_graphs.qualcomm import with_own_norms
    from pocket_opt.executorch_graphs.tables import FloatTable

    methods = whisper_methods(checkpoint, FloatTable(read(checkpoint, "decoder.embed_tokens.weight")))
    return {name: replace(method, module=with_own_norms(method.module)) for name, method in methods.items()}


PASS = ExportExecutorchQnn()
