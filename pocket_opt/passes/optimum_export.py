"""Export by Hugging Face Optimum: any architecture and task that it supports, traced from PyTorch, in its own layout.

Applies to a model in the Hugging Face layout, also of architectures that no family here builds graphs for, and
serves as the reference for our own export. It runs in the toolchain `optimum` (`pocket-opt toolchain install optimum`),
because Optimum's exporter needs an older transformers; no network, no pip and no code from the model there. Every
`<name>.onnx` becomes a component; shapes stay dynamic. Optimum compares each graph with PyTorch as it exports. A
Whisper comes out as `encoder_model`, `decoder_model` and its forms with a cache, which the runtimes here do not read:
use `export_onnx` for what is to be measured here. Source: https://huggingface.co/docs/optimum-onnx.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.models.layout import CONFIG, read_table
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.toolchains import load_toolchain
from pocket_opt.worker import silent

TOOLCHAIN = "optimum"
MERGED = "decoder_model_merged.onnx*"
SECOND = 16_000
"""Samples of raw audio in a second, which every model of speech takes."""


@dataclass(frozen=True)
class OptimumExportParams:
    """What Optimum is asked for.

    Attributes:
        task: one of Optimum's, e.g. "text-generation-with-past", "feature-extraction"; "auto" follows from the
            architecture in config.json.
        opset: ONNX operator set; None takes Optimum's default for the architecture.
        merged: keep the decoder that holds those with and without a cache as branches. Passes do not rewrite what lies
            in branches, so what is to be quantized is better off without.
    """

    task: str = "auto"
    opset: int | None = None
    merged: bool = True


class OptimumExport(Pass[OptimumExportParams]):
    """Runs `main_export` in the toolchain's environment."""

    version = 2
    Params = OptimumExportParams
    tools = ("onnx", "onnx_ir")
    toolchain = TOOLCHAIN

    def requires(self, inputs: Inputs, params: OptimumExportParams) -> None:  # noqa: ARG002
        """The toolchain is installed, and the model is still one of PyTorch."""
        from pocket_opt.toolchains.environments import require

        part = inputs["model"].components.get("model")
        if part is None or part.format != "transformers":
            raise PocketOptError(
                "Optimum exports the model in its own framework, and this one is exported already",
                where=f"components {', '.join(inputs['model'].components)}",
                fix="put it behind the model: nodes.NAME.after=source",
            )
        require(load_toolchain(TOOLCHAIN))

    def run(
        self, inputs: Inputs, params: OptimumExportParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Export, then describe every graph and pass the other files on."""
        from pocket_opt.toolchains.environments import call

        source = inputs["model"]
        payload = {
            "model": str(source.root),
            "output": str(workdir),
            "task": params.task,
            "opset": params.opset,
        }
        reply = call(load_toolchain(TOOLCHAIN), "export:export", payload, on_progress=progress)
        did = dict(reply.value)
        if not params.merged:
            for path in workdir.glob(MERGED):
                path.unlink()
        artifact = describe(workdir, source, str(did["task"]))
        sizes = {name: artifact.size(name) for name, part in artifact.components.items() if part.inputs}
        return Outcome(artifact, {**did, "bytes": sizes, "peak_bytes": reply.peak_bytes})

    def ensures(self, inputs: Inputs, params: OptimumExportParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Every graph satisfies the ONNX checker and has finite weights."""
        from pocket_opt.onnx_graphs.checks import check_finite, check_structure

        for name, part in outcome.artifact.components.items():
            if part.format == "onnx":
                check_structure(outcome.artifact.path(name), name)
                check_finite(outcome.artifact.path(name), name)


def describe(workdir: Path, source: Artifact, task: str) -> Artifact:
    """The artifact of what Optimum wrote; PocketOptError if that is no graph."""
    from pocket_opt.onnx_graphs.files import load
    from pocket_opt.onnx_graphs.writing import ports

    graphs = sorted(workdir.glob("*.onnx"))
    if not graphs:
        raise PocketOptError(
            "Optimum wrote no graph", where=str(workdir), fix="look at its output, or report this"
        )
    components: dict[str, Component] = {}
    for path in graphs:
        inputs, outputs = ports(load(path))
        beside = sorted(other.name for other in workdir.glob(f"{path.name}_data*"))
        components[path.stem] = Component("onnx", (path.name, *beside), inputs, outputs)
    taken = {name for part in components.values() for name in part.files}
    rest = sorted(path.name for path in workdir.iterdir() if path.is_file() and path.name not in taken)
    settings = tuple(name for name in ("generation_config.json", "config.json") if name in rest)
    components["generation"] = Component("json", settings)
    processor = tuple(name for name in rest if name not in settings)
    if processor:
        components["processor"] = Component("processor", processor)
    metadata: dict[str, Any] = {"runtime": "onnxruntime", "exporter": "optimum", "task": task}
    if CONFIG in settings:
        taken_in = {port.name for part in components.values() for port in part.inputs}
        metadata["sizes"] = known_sizes(read_table(workdir / CONFIG), taken_in)
    return Artifact(workdir, components, {**source.metadata, **metadata})


def known_sizes(config: Mapping[str, Any], inputs: Collection[str]) -> dict[str, int]:
    """Sizes of symbolic dimensions that only some numbers fit, as config.json tells them."""
    sizes = {}
    if isinstance(config.get("num_channels"), int):
        sizes["num_channels"] = config["num_channels"]
    image = config.get("image_size")
    if isinstance(image, int):
        sizes |= {"height": image, "width": image}
    if "input_values" in inputs:
        sizes["sequence_length"] = SECOND
    return sizes


PASS = OptimumExport()
