"""Convert ONNX graphs to ONNX Runtime's own format (`.ort`), which its small builds for phones read.

Applies last, to any graphs. What they need of a runtime stands beside them: `required_operators.config`, by which
ONNX Runtime is built with these kernels and types alone (`build.sh --include_ops_by_config FILE
--enable_reduced_operator_type_support --minimal_build extended`). A small build optimizes nothing when it loads, so
the optimizations are done here, those for one kind of processor left out.

Constants are not folded unless asked for: folding would widen weights that are stored in 16 bits. They are widened at
each run instead, which costs time where such weights are large (level MEDIUM: sample model, a step 0.34 ms instead of
0.21), and next to nothing where integers hold them (HIGH: alike). The scales of these are always widened here: ONNX
Runtime 1.31 multiplies wrongly, and says nothing, where the scales of MatMulNBits are no constants.
Source: ONNX Runtime documentation, "ORT model format" and "Reduced operator config file".
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

FORMAT = "ort"
OPERATORS = "required_operators.config"
MOST_BYTES = 2_000_000_000
"""A flatbuffer ends at 2 GB."""
MAGIC = b"ORTM"
"""At bytes 4 to 8 of a file."""
MULTIPLIED = "MatMulNBits"
SCALED = (MULTIPLIED, "GatherBlockQuantized")
"""Operators whose inputs from the third on are scales and the like."""
LEAST_DB = 60.0
"""Agreement on random inputs below which the conversion is wrong."""
SAVED = {"session.enable_saved_runtime_optimizations": "1"}
"""What lets a session replay what style "runtime" saved."""


@dataclass(frozen=True)
class ConvertOrtParams:
    """How.

    Attributes:
        style: "fixed": everything is done here. "runtime": fusions are saved beside the plain nodes, so that NNAPI and
            Core ML can take these, and the rest is fused when it is loaded.
        fold: compute constants now: larger files where weights are stored narrow, no widening at run time.
        types: reduce kernels to the types that occur, too, in `required_operators.config`.
    """

    style: Literal["fixed", "runtime"] = "fixed"
    fold: bool = False
    types: bool = True


class ConvertOrt(Pass[ConvertOrtParams]):
    """Converts every graph, and lists what they need."""

    version = 2
    Params = ConvertOrtParams
    tools = ("onnxruntime", "onnx", "onnx_ir", "numpy")

    def requires(self, inputs: Inputs, params: ConvertOrtParams) -> None:  # noqa: ARG002
        """There are ONNX graphs, none of them too large for the format."""
        model = inputs["model"]
        if not _graphs(model):
            raise PocketOptError(
                "the model has no ONNX graph to convert",
                where="components: " + ", ".join(model.components),
                fix="export it first, and convert last",
            )
        for name in _graphs(model):
            if model.size(name) > MOST_BYTES:
                raise PocketOptError(
                    f"component '{name}' has {model.size(name) / 1e9:.1f} GB, and the format ends at 2 GB",
                    where=name,
                    fix="store it in fewer bits (level=HIGH), or choose target=cpu",
                )

    def run(
        self, inputs: Inputs, params: ConvertOrtParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `<component>.ort` for each graph."""
        from pocket_opt.onnx_graphs.mobile_partitions import partitions

        source = inputs["model"]
        names = _graphs(source)
        artifact, did = source.carry(workdir, without=names), dict[str, Any]()
        for done, name in enumerate(names, start=1):
            before, file = source.components[name], f"{name}.ort"
            widened = _convert(source, name, workdir / file, params)
            artifact = artifact.with_component(
                name, Component(FORMAT, (file,), before.inputs, before.outputs)
            )
            did[name] = {"bytes_before": source.size(name), "bytes_after": artifact.size(name)}
            did[name] |= {"scales_widened": widened, "accelerators": partitions(source.path(name))}
            progress(done, len(names), "graphs")
        needed = _write_operators([workdir / f"{name}.ort" for name in names], workdir, types=params.types)
        session = dict(source.metadata.get("session", {}))
        session |= {"graph_optimization": "disabled"} if params.style == "fixed" else {}
        session["entries"] = {
            **session.get("entries", {}),
            **(SAVED if params.style == "runtime" else {}),
        }
        artifact = artifact.with_component("operators", Component("json", (OPERATORS,)), session=session)
        return Outcome(artifact, {"components": did, "operators": needed, "style": params.style})

    def ensures(self, inputs: Inputs, params: ConvertOrtParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Files are of the format, and answer as their graphs did."""
        from pocket_opt.onnx_graphs.checks import COMPARE_BELOW, agreement_db

        source, artifact = inputs["model"], outcome.artifact
        for name in _graphs(source):
            with artifact.path(name).open("rb") as file:
                found = file.read(8)[4:]
            if found != MAGIC:
                raise PocketOptError(f"component '{name}' is not in the ORT format", where=f"{name}.ort")
            if source.size(name) > COMPARE_BELOW or _has_own_operators(source):
                continue
            if not (level := agreement_db(source, artifact, name)) >= LEAST_DB:
                raise PocketOptError(
                    f"component '{name}' no longer agrees with its graph: SQNR {level:.1f} dB on random inputs",
                    allowed=f"at least {LEAST_DB:.0f} dB",
                    fix="report this with the model's shapes",
                )


def _graphs(model: Artifact) -> tuple[str, ...]:
    return tuple(name for name, part in model.components.items() if part.format == "onnx")


def _has_own_operators(model: Artifact) -> bool:
    """Whether a graph needs a library of operators beside the runtime, or takes texts: it has no random inputs."""
    return bool(model.metadata.get("session", {}).get("extensions")) or "all_in_one" in model.components


def _convert(source: Artifact, name: str, file: Path, params: ConvertOrtParams) -> int:
    """Have ONNX Runtime load a graph, optimize it and write it down; how many scales were widened."""
    import onnxruntime

    settings = source.metadata.get("session", {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(file)
    # Above this level nodes are laid out for the processor of this machine.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    entries = {**settings.get("entries", {}), "session.save_model_format": "ORT"}
    if params.style == "runtime":
        entries["optimization.minimal_build_optimizations"] = "save"
    for key, value in entries.items():
        options.add_session_config_entry(key, str(value))
    if settings.get("extensions"):
        from pocket_opt.models.whisper.runner.extensions import extensions_library

        options.register_custom_ops_library(extensions_library())
    without = [] if params.fold else ["ConstantFolding"]
    widened = file.with_suffix(".onnx")
    did = _widen_scales(source, name, file.parent, widened.name)
    try:
        onnxruntime.InferenceSession(
            widened, options, providers=["CPUExecutionProvider"], disabled_optimizers=without
        )
    except Exception as error:  # the runtime's own classes share no base but this
        raise PocketOptError(
            f"ONNX Runtime cannot convert component '{name}': {' '.join(str(error).split())[:300]}",
            where=name,
            fix="leave the pass that made the named node out, or choose target=cpu",
        ) from error
    for left in file.parent.glob(f"{widened.name}*"):
        left.unlink()
    return did


def _widen_scales(source: Artifact, name: str, workdir: Path, file: str) -> int:
    """Write the graph with 32-bit scales as `file`; how many scales were stored in 16 bits."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import add_initializer, constant, is_constant, load, save

    model = load(source.path(name))
    graph, widened = model.graph, dict[Any, Any]()
    for node in [node for node in graph.all_nodes() if node.op_type in SCALED]:  # in loops, too
        for place, value in list(enumerate(node.inputs))[2:]:
            cast = value.producer() if value is not None else None
            if value is None or cast is None or cast.op_type != "Cast" or not is_constant(cast.inputs[0]):
                continue
            if value not in widened:
                array = constant(cast.inputs[0]).astype(np.float32)
                widened[value] = add_initializer(graph, f"{value.name}.widened", array)
            node.replace_input_with(place, widened[value])
    for cast in {value.producer() for value in widened}:
        if not cast.outputs[0].uses():
            cast.graph.remove(cast)
    for node in graph.all_nodes():
        if node.op_type == MULTIPLIED and not is_constant(node.inputs[2]):
            raise PocketOptError(
                f"the scales of {MULTIPLIED} are no constants, with which ONNX Runtime multiplies wrongly",
                where=f"component '{name}', node {node.name}",
                fix="leave out the pass that computes them, or choose target=cpu",
            )
    save(model, workdir, file)
    return len(widened)


def _write_operators(files: list[Path], workdir: Path, *, types: bool) -> int:
    """Write the list for reduced builds; how many operators it names."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    path = workdir / OPERATORS
    with contextlib.redirect_stdout(io.StringIO()):
        create_config_from_models(files, path, types)
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    path.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    return len({word for line in lines for word in _operators(line)})


def _operators(line: str) -> list[str]:
    """The operators in a line `domain;opset;Op{types},Op{types}`."""
    depth, names, name = 0, list[str](), ""
    for letter in line.split(";", 2)[2] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and not depth:
            names.append(name.partition("{")[0])
            name = ""
        else:
            name += letter
    return names


PASS = ConvertOrt()
