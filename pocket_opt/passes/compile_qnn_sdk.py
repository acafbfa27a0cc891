"""Compile graphs of static shapes to context binaries of a Qualcomm NPU by the programs of Qualcomm's own SDK.

Takes the place of `compile_qnn` (`nodes.compile.pass=compile_qnn_sdk`) for whoever has the SDK and wants its version
of the compiler: QNN_SDK_ROOT names it, and it is never downloaded. What comes out is the same: a binary and a wrapper
for each graph, which ONNX Runtime's QNN provider loads, and which is compared with the CPU in the simulator.

`converter=qairt` goes ONNX -> DLC -> binary; `converter=qnn` the older way, ONNX -> C++ -> library -> binary, which
needs clang. Quantized graphs are handed over as float graphs with the grid of each tensor. Costs about what
`compile_qnn` costs, and the start of three programs for each graph.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact, Component
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.qnn.chip import ChipParams, about, check_chip, graphs_of
from pocket_opt.qnn.sdk import BACKEND, EXTENSIONS, HOST, MODEL_OF_DLC, Sdk, find_sdk
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.qnn.encodings import Encodings

GENERATOR = "qnn-context-binary-generator"
PROGRAMS = {
    "qairt": ("qairt-converter", GENERATOR),
    "qnn": ("qnn-onnx-converter", "qnn-model-lib-generator", GENERATOR),
}


@dataclass(frozen=True)
class CompileQnnSdkParams(ChipParams):
    """For what, and how.

    Attributes:
        converter: which of the SDK's converters.
        optimization: how hard the compiler tries, 1 to 3.
        arguments: further arguments of the converter, as they are.
        python: the interpreter of the SDK's scripts, where it is not the one they find; it must be of the version that
            the SDK asks for, with the packages that its check-python-dependency names.
        tool_timeout_s: seconds that one program may take.
        simulate_below: products in one call of a graph up to which it is run in the simulator; of an encoder above
            it one for few positions is; 0 runs none.
    """

    converter: Literal["qairt", "qnn"] = "qairt"
    optimization: int = field(default=3, metadata={"at_least": 1, "at_most": 3})
    arguments: tuple[str, ...] = ()
    python: str = neutral("")
    tool_timeout_s: float = neutral(1800.0)
    simulate_below: float = neutral(4e9)


class CompileQnnSdk(Pass[CompileQnnSdkParams]):
    """Converts and compiles one graph after the other, and checks each."""

    version = 1
    Params = CompileQnnSdkParams
    compiles = True
    tools = ("onnx", "onnx_ir", "onnxruntime", "onnxruntime-qnn", "numpy")

    def found_tools(self) -> Mapping[str, str]:
        """The SDK's version."""
        return {"qairt": find_sdk().version}

    def check(self, params: CompileQnnSdkParams) -> None:
        """The chip is named, and the SDK is there and has the programs."""
        check_chip(params)
        find_sdk(PROGRAMS[params.converter])

    def requires(self, inputs: Inputs, params: CompileQnnSdkParams) -> None:  # noqa: ARG002
        """The provider that loads binaries is installed; the graphs are there, and of what the NPU can take."""
        from pocket_opt.onnx_graphs.files import require_graphs
        from pocket_opt.qnn.fitness import require_fitness
        from pocket_opt.runtimes.qnn import require_provider

        require_provider()
        graphs = graphs_of(inputs["model"])
        require_graphs(inputs["model"], graphs)
        require_fitness(inputs["model"], graphs, allow_fallback=False)

    def run(
        self, inputs: Inputs, params: CompileQnnSdkParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write wrappers and binaries, and tell the command lines."""
        from pocket_opt.qnn.context import component, wrap
        from pocket_opt.scratch import scratch

        source, sdk = inputs["model"], find_sdk(PROGRAMS[params.converter])
        graphs = graphs_of(source)
        artifact, did = source.carry(workdir, without=graphs), dict[str, Any]()
        for done, name in enumerate(graphs, start=1):
            part, binary = source.components[name], workdir / f"{name}_qnn.bin"
            with scratch("sdk") as folder:
                made, did[name] = _compile(source, name, sdk, params, folder)
                shutil.move(made, binary)
            wrapper = wrap(binary, name, part, sdk=sdk.version)
            did[name] |= _check(source, name, wrapper, sdk, params)
            artifact = artifact.with_component(name, component(wrapper, part))
            did[name]["bytes"] = artifact.size(name)
            progress(done, len(graphs), "graphs")
        generation = artifact.components["generation"]
        qnn = about(params, source, sdk=sdk.version)
        artifact = artifact.with_component("generation", generation, runtime="qnn", qnn=qnn)
        return Outcome(artifact, did | {"sdk": sdk.version})


def _compile(
    source: Artifact, name: str, sdk: Sdk, params: CompileQnnSdkParams, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """The binary of one graph, made in `folder`, and what was done."""
    began = time.perf_counter()
    taken = _hand_over(source, name, folder)
    (folder / "htp.json").write_text(json.dumps(_htp(name, params)))
    backend = {"shared_library_path": sdk.library(EXTENSIONS), "config_file_path": "htp.json"}
    (folder / "config.json").write_text(json.dumps({"backend_extensions": backend}))
    lines = [
        sdk.run(
            program,
            words,
            folder=folder,
            makes=makes,
            python=params.python,
            timeout_s=params.tool_timeout_s,
        )
        for program, words, makes in _steps(source.components[name], name, sdk, params, taken)
    ]
    did = {
        "commands": lines,
        "npu_share": 100.0,
        "grids": {"activations": len(taken.activations), "constants": len(taken.params)},
        "second_grids_kept": len(taken.kept),
        "compile_s": round(time.perf_counter() - began, 2),
    }
    return folder / "binary" / f"{name}.bin", did


def _hand_over(source: Artifact, name: str, folder: Path) -> Encodings:
    """Write the float graph and the JSON file of its grids into `folder`."""
    from pocket_opt.onnx_graphs.files import load, save
    from pocket_opt.qnn.encodings import take_out

    model = load(source.path(name))
    taken = take_out(model.graph)
    save(model, folder, f"{name}.onnx")
    (folder / f"{name}.encodings").write_text(json.dumps(taken.describe()))
    return taken


def _steps(
    part: Component, name: str, sdk: Sdk, params: CompileQnnSdkParams, taken: Encodings
) -> list[tuple[str, list[str], list[str]]]:
    """(program, its arguments, the files that it makes), in order."""
    ports = [port.name for port in (*part.inputs, *part.outputs)]
    exact = [port for port in ports if port not in taken.levels]
    shapes = [(port.name, ",".join(map(str, port.shape))) for port in part.inputs]
    grids = ["--quantization_overrides", f"{name}.encodings"] if taken.activations or taken.params else []
    common = ["--input_network", f"{name}.onnx", "--float_bitwidth", "16", *grids, *params.arguments]
    config = ["--output_dir", "binary", "--binary_file", name, "--config_file", "config.json"]
    compiler = ["--backend", sdk.library(BACKEND)]
    binary = [f"binary/{name}.bin"]
    converter, *others = PROGRAMS[params.converter]
    if params.converter == "qairt":
        sizes = [word for shape in shapes for word in ("--source_model_input_shape", *shape)]
        words = [*common, "--output_path", f"{name}.dlc", *sizes, "--preserve_io_datatype", *exact]
        model = ["--model", sdk.library(MODEL_OF_DLC), "--dlc_path", f"{name}.dlc"]
        return [
            (converter, words, [f"{name}.dlc"]),
            (others[0], [*compiler, *model, *config], binary),
        ]
    sizes = [word for shape in shapes for word in ("--input_dim", *shape)]
    kept = ["--preserve_io", "layout", *ports, "--preserve_io", "datatype", *exact]
    unset = ["--float_fallback"] if grids else []
    words = [*common, "--output_path", f"{name}.cpp", *sizes, *unset, *kept]
    library = f"libs/{HOST}/lib{name}.so"
    return [
        (converter, words, [f"{name}.cpp", f"{name}.bin"]),
        (others[0], ["-c", f"{name}.cpp", "-b", f"{name}.bin", "-o", "libs", "-t", HOST], [library]),
        (others[1], [*compiler, "--model", library, *config], binary),
    ]


def _htp(name: str, params: CompileQnnSdkParams) -> dict[str, Any]:
    """What the NPU's part of the compiler is told, in the SDK's words."""
    graph = {"graph_names": [name], "vtcm_mb": params.vtcm_mb, "O": params.optimization}
    return {"graphs": [graph], "devices": [{"soc_id": params.soc_model, "dsp_arch": f"v{params.htp_arch}"}]}


def _check(
    source: Artifact, name: str, wrapper: Path, sdk: Sdk, params: CompileQnnSdkParams
) -> dict[str, Any]:
    """Load a binary, and compare it with the CPU; of a large encoder, one for few positions."""
    from pocket_opt.qnn import compilation
    from pocket_opt.qnn.context import wrap
    from pocket_opt.qnn.shortening import few_positions, shortened
    from pocket_opt.scratch import scratch

    session = _open(wrapper, sdk, params)
    products = compilation.multiplications(source.path(name))
    if products <= params.simulate_below:
        return {"cosine_to_cpu": _cosine(source, name, session), "checked": "run in the simulator"}
    if name != "encoder" or not params.simulate_below:
        return {"checked": f"loaded only: {products:.1e} products take too long to simulate"}
    del session
    with scratch("spot") as folder:
        (folder / "made").mkdir()
        positions = few_positions(source.components[name])
        part = shortened(source.path(name), folder / f"{name}.onnx", positions)
        short = Artifact(folder, {name: part}, source.metadata)
        binary, _ = _compile(short, name, sdk, params, folder / "made")
        session = _open(wrap(binary, name, part, sdk=sdk.version), sdk, params)
        cosine = _cosine(short, name, session)
    return {
        "cosine_to_cpu": cosine,
        "checked": f"{positions} positions of the window; run in the simulator",
    }


def _open(wrapper: Path, sdk: Sdk, params: CompileQnnSdkParams) -> Any:
    """A session on a binary of the SDK."""
    from pocket_opt.models.whisper.runner.qnn_backend import provider_options
    from pocket_opt.qnn.compilation import reopened

    options = provider_options({"soc_model": params.soc_model, "htp_arch": params.htp_arch}, {})
    fix = f"use an SDK no newer than onnxruntime-qnn's own ({_own_version()}); this one is {sdk.version}"
    return reopened(wrapper, options, fix=fix)


def _cosine(source: Artifact, name: str, session: Any) -> float:
    """How near a binary is to the graph that it was made from; PocketOptError where that is not near."""
    from pocket_opt.onnx_graphs.inputs import random_inputs
    from pocket_opt.qnn import compilation

    part = source.components[name]
    names = [port.name for port in part.outputs]
    found = dict(zip(names, session.run(names, random_inputs(part)), strict=True))
    least = compilation.least_cosine(source)
    return round(compilation.require_near_cpu(source.path(name), part, found, least), 6)


def _own_version() -> str:
    """The version of Qualcomm's libraries in the provider."""
    from onnxruntime_qnn import build_and_package_info

    return str(build_and_package_info.qnn_version)


PASS = CompileQnnSdk()
