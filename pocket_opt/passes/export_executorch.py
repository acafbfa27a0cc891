"""Write a Whisper checkpoint as one ExecuTorch program: mel, encoder, prefill and decoder, delegated to XNNPACK.

Applies to a source artifact (`load_source`, `random_weights`). Modules are built from the state dict in forms that
XNNPACK takes whole (`../executorch_graphs/`), captured by torch.export and lowered. Quantization belongs to this pass,
because the program is the first thing that can be stored: what a quantizer annotates lives in the captured graph.
`prefill` is the decoder for all tokens of the longest forced prompt; the two share their weights in the file. Costs a
minute of tracing whatever the weights are, and memory for two copies of them. Source: docs.pytorch.org/executorch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import PocketOptError, UserError, unknown_name
from pocket_opt.executorch_graphs.fixed_shapes import require_full_context
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from torch import nn

    from pocket_opt.artifact import Artifact
    from pocket_opt.executorch_graphs.methods import Method
    from pocket_opt.models.whisper.checkpoint import Checkpoint

RUNTIME, FILE = "executorch", "model.pte"
LEAST_DB = {"float32": 80.0, "float16": 40.0, "int8": 12.0, "int4": 6.0}
"""Agreement with the modules in 32 bits on random inputs, below which the program is wrong, not only inexact."""
LEAST_STATIC_DB = 3.0
"""The same where ranges are fixed: random inputs go beyond what calibration clips had, and are clipped."""
INTEGERS = ("int8", "int4")
HALVES = ("encoder", "decoder")
"""Methods with linear layers of their own; those of `prefill` are the decoder's."""
EXACT = ("mel",)
"""Methods that keep 32 bits: the logarithm is of small numbers, and there is nothing to gain."""


@dataclass(frozen=True)
class ExportExecutorchParams(Calibrated):
    """What the linear layers are.

    Attributes:
        weights: of linear layers and embedding. 8 bits have a scale per output channel, 4 bits one per group.
        half: methods whose linear layers are computed in 16 bits with `weights=float16`. For one token that costs
            nothing and halves what is read; for a whole window it takes twice the time on a CPU without 16-bit
            arithmetic (x86 before AVX512-FP16, ARM before v8.2).
        activations: of 8-bit layers: `dynamic`, a scale for each row as it comes, or `static`, one that calibration
            found.
        calibration_clips: how many are heard for static activations, spread evenly over the data set.
        least_clips: fewer than these are refused.
        group_size: weights that share a scale at 4 bits; a layer whose inputs are no multiple of it gets 8 bits.
        prefill: whether there is a method for prompts; else they go through `decoder` token by token.
        audio_context: only `full`: the encoder's shapes are fixed.
    """

    weights: Literal["float32", "float16", "int8", "int4"] = "float32"
    half: tuple[str, ...] = ("decoder",)
    activations: Literal["dynamic", "static"] = "dynamic"
    group_size: int = 32
    calibration_clips: int = positive(16)
    least_clips: int = positive(8)
    prefill: bool = True
    audio_context: Literal["full", "auto"] = "full"

    def fewest_clips(self) -> int:
        """See Calibrated."""
        return self.least_clips


class ExportExecutorch(Pass[ExportExecutorchParams]):
    """Builds, quantizes, lowers and writes the program; passes tokenizer and configuration on."""

    version = 4
    Params = ExportExecutorchParams
    tools = ("executorch", "torch", "torchao", "numpy")

    def check(self, params: ExportExecutorchParams) -> None:
        """Groups are of a size that XNNPACK's kernels take, windows are whole, and there are enough clips."""
        from pocket_opt.data.calibration_clips import require_enough

        require_full_context(params.audio_context)
        if self.calibrates(params):
            require_enough(params.calibration_clips, params.least_clips, where="params.calibration_clips")
        if params.group_size < 32 or params.group_size % 32:
            raise UserError(
                f"XNNPACK takes no groups of {params.group_size} weights",
                where="params.group_size",
                allowed="a multiple of 32",
                fix="set group_size=32",
            )

        if params.activations == "static" and params.weights != "int8":
            raise UserError(
                f"XNNPACK takes no static activations with weights={params.weights}",
                where="params.activations",
                allowed="activations=static with weights=int8",
                fix="set weights=int8, or activations=dynamic",
            )
        unknown = [name for name in params.half if name not in HALVES]
        if unknown:
            raise unknown_name("method", unknown[0], HALVES, where="params.half")

    def calibrates(self, params: ExportExecutorchParams) -> bool:
        """Where scales of activations are fixed."""
        return params.activations == "static"

    def requires(self, inputs: Inputs, params: ExportExecutorchParams) -> None:
        """The checkpoint is a complete Whisper, and the clips will do."""
        from pocket_opt.data.calibration_clips import require_clips
        from pocket_opt.data.planned import open_planned
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        open_checkpoint(inputs["model"].root)
        if self.calibrates(params):
            planned = open_planned(params.calibration_path, params.calibration_digest)
            require_clips(planned.limit(params.calibration_clips), params.least_clips)

    def run(
        self, inputs: Inputs, params: ExportExecutorchParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Capture one method after the other, then lower all of them into one file."""
        from pocket_opt.executorch_graphs.lowering import lower, shares
        from pocket_opt.executorch_graphs.methods import constants, described
        from pocket_opt.models.layout import GENERATION_CONFIG
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        source = inputs["model"]
        checkpoint = open_checkpoint(source.root)
        methods = _methods(source, params)
        captured = _captured(source, methods, params, progress)
        generation = json.loads(source.file("model", GENERATION_CONFIG).read_text(encoding="utf-8"))
        told = constants(checkpoint.dims, generation)
        report = lower(captured, told, workdir / FILE)
        artifact = described(source, methods, workdir / FILE, RUNTIME)
        did = {"constants": told, "bytes": artifact.size("decoder"), **shares(report), "methods": report}
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: ExportExecutorchParams, outcome: Outcome) -> None:
        """Run by ExecuTorch, every method answers like its module; XNNPACK took every product."""
        from pocket_opt.executorch_graphs.checks import require_agreement
        from pocket_opt.models.whisper.runner.executorch_backend import ExecutorchBackend

        for name, counts in outcome.did["methods"].items():
            left = [kind for kind in counts["not_delegated"] if kind.endswith(PRODUCTS)]
            if left:
                raise PocketOptError(
                    f"XNNPACK did not take every product of method '{name}'",
                    where=", ".join(left),
                    fix="report this with the versions of executorch and torch",
                )
        methods = _methods(inputs["model"], ExportExecutorchParams(prefill=params.prefill))
        artifact = outcome.artifact
        backend = ExecutorchBackend(artifact.root, artifact.describe(), 0)
        least = LEAST_STATIC_DB if params.activations == "static" else LEAST_DB[params.weights]
        require_agreement(methods, backend.session, least_db=least)


PRODUCTS = ("linear_default", "bmm_default", "addmm_default", "mm_default")


def _methods(source: Artifact, params: ExportExecutorchParams) -> dict[str, Method]:
    from pocket_opt.executorch_graphs.methods import whisper_methods
    from pocket_opt.models.whisper.checkpoint import open_checkpoint
    from pocket_opt.models.whisper.forced_prompt import longest_prompt

    checkpoint = open_checkpoint(source.root)
    prompt = longest_prompt(source) if params.prefill else 1
    return whisper_methods(checkpoint, _table(checkpoint, params), prompt)


def _table(checkpoint: Checkpoint, params: ExportExecutorchParams) -> nn.Module:
    """The embedding, in 8 bits where the rest has 8 or fewer."""
    from pocket_opt.executorch_graphs.layers import read
    from pocket_opt.executorch_graphs.tables import ByteTable, FloatTable

    weight = read(checkpoint, "decoder.embed_tokens.weight")
    if params.weights in INTEGERS:
        return ByteTable(weight)
    return FloatTable(weight, half=params.weights == "float16")


def _captured(
    source: Artifact, methods: dict[str, Method], params: ExportExecutorchParams, progress: Progress
) -> dict[str, Any]:
    """What is lowered of each method, quantized as asked."""
    from pocket_opt.executorch_graphs import quantization
    from pocket_opt.executorch_graphs.lowering import capture
    from pocket_opt.runtimes.calibration import heard_of

    rest = {name: method for name, method in methods.items() if name not in EXACT}
    captured = {name: capture(methods[name]) for name in EXACT}
    if params.weights == "int8":
        dynamic = params.activations == "dynamic"
        graphs = {name: quantization.observed(method, dynamic=dynamic) for name, method in rest.items()}
        if not dynamic:
            if "prefill" in graphs:
                quantization.observe_alike(graphs["prefill"], graphs["decoder"])
            calibration = heard_of(source, params, params.calibration_clips, progress)
            quantization.hear(graphs, rest, calibration, progress)
        return captured | {name: quantization.in_8_bits(graphs[name], rest[name]) for name in rest}
    for name in HALVES:
        if params.weights == "int4":
            quantization.quantize_4_bits(methods[name].module, params.group_size)
        if params.weights == "float16" and name in params.half:
            quantization.compute_in_16_bits(methods[name].module)
    return captured | {name: capture(method) for name, method in rest.items()}


PASS = ExportExecutorch()
