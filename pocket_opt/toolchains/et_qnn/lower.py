"""Quantizes captured methods and gives them to Qualcomm's delegate; runs in the toolchain's environment, stand-alone.

What it needs of the package arrives as files: `torch.export` programs, calibration clips as arrays, and the folder of
the runner that every bundle carries, whose loop fills the decoder's caches here as it does in use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = "QNN_SDK_ROOT"
CALIBRATED = ("16a8w",)
"""Bits of activations and weights, as QnnQuantizer names them."""

MASK = "cache_mask"
DEEPEST = -64.0
"""Of a mask while ranges are observed: it is added to scores, so what it is takes part in their range. Masks that are
deeper in use saturate, and e^-64 is nothing beside the scores of any row that is heard."""

NO_WORK = ("getitem",)
"""Not operators: they name one of a delegate's results."""

Progress = Callable[[int, int, str], None]


class LoweringRefused(Exception):
    """The delegate does not take this; the parent tells it as its own error."""

    exit_code = 1

    def __init__(self, what: str, where: str, allowed: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.where, self.allowed, self.fix = what, where, allowed, fix


def lower(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Write `payload["output"]`, one program of all methods; says what the delegate took, and with which libraries.

    The payload names `programs` (method -> file of `torch.export`), the `ports` of each, those that the CPU computes
    (`host`), `constants`, `precision`, `soc_model`, and where it is calibrated `runner` and `heard`; `probes` holds
    inputs of methods, whose answers before lowering go to `answers`.
    """
    _require_libraries()
    _chip(payload)
    from executorch.backends.qualcomm.utils.check_qnn_version import describe_sdk_build_id

    programs = {name: torch.export.load(path) for name, path in payload["programs"].items()}
    if payload["precision"] in CALIBRATED:
        programs |= _quantized(programs, payload, progress)
    _answer(programs, payload)
    edge = _lowered(programs, payload)
    methods = {name: _delegation(edge.exported_program(name).graph_module) for name in programs}
    _require_delegated({name: methods[name] for name in programs if name not in payload["host"]})
    _write(edge, Path(payload["output"]))
    named = ("executorch", "torch", "torchao", "onnxruntime-qnn")
    return {
        "methods": methods,
        "libraries": describe_sdk_build_id(),
        "versions": {name: version(name) for name in named},
    }


def _require_libraries() -> None:
    """Refuse before ExecuTorch looks for the libraries itself: it would download 1 GB where none are named."""
    library = Path(os.environ.get(ROOT) or "/nowhere", "lib", "x86_64-linux-clang", "libQnnHtp.so")
    if not library.is_file():
        raise LoweringRefused(
            "Qualcomm's libraries are not there",
            str(library),
            f"{ROOT} names a folder that holds lib/x86_64-linux-clang",
            "start this task through the package, which names it",
        )


def _chip(payload: Mapping[str, Any]) -> Any:
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset

    known = {int(chip): chip for chip in QcomChipset}
    if payload["soc_model"] not in known:
        raise LoweringRefused(
            f"ExecuTorch knows no chip with the number {payload['soc_model']}",
            "target.soc",
            ", ".join(sorted(chip.name for chip in known.values())),
            "choose another chip",
        )
    return known[payload["soc_model"]]


def _quantized(programs: Mapping[str, Any], payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The methods that the NPU computes, on the grids that the calibration clips ask for."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    names = [name for name in programs if name not in payload["host"]]
    with torch.no_grad():
        observed = {name: prepare_pt2e(programs[name].module(), _quantizer(payload)) for name in names}
        _hear(observed, payload, progress)
        return {
            name: torch.export.export(convert_pt2e(graph), programs[name].example_inputs[0], strict=True)
            for name, graph in observed.items()
        }


def _quantizer(payload: Mapping[str, Any]) -> Any:
    from executorch.backends.qualcomm.quantizer.quantizer import QnnQuantizer, QuantDtype
    from executorch.backends.qualcomm.serialization.qc_schema import QnnExecuTorchBackendType
    from torchao.quantization.pt2e import MinMaxObserver

    quantizer = QnnQuantizer(QnnExecuTorchBackendType.kHtpBackend, _chip(payload))
    quantizer.set_default_quant_config(
        QuantDtype[f"use_{payload['precision']}"],
        is_linear_per_channel=True,
        is_conv_per_channel=True,
        act_observer=MinMaxObserver,
    )
    return quantizer


def _hear(graphs: Mapping[str, Any], payload: Mapping[str, Any], progress: Progress) -> None:
    """Let graphs hear the clips and say their tokens: the prompt at once, then token by token, as in use."""
    sys.path.insert(0, payload["runner"])
    from runner.method_backend import MethodSession  # type: ignore[import-not-found]
    from runner.static_backend import StaticBackend  # type: ignore[import-not-found]

    sessions = {
        name: MethodSession(name, _call(graph, payload["ports"][name]), payload["ports"][name])
        for name, graph in graphs.items()
    }
    backend = StaticBackend(sessions)
    for done, file in enumerate(payload["heard"], start=1):
        with np.load(file) as clip:
            tokens, prompt = clip["tokens"], int(clip["prompt"])
            state = backend.encode(clip["features"])
        _, state = backend.decode(tokens[:, :prompt], state)
        for place in range(prompt, tokens.shape[1]):
            _, state = backend.decode(tokens[:, place : place + 1], state)
        progress(done, len(payload["heard"]), "clips observed")


def _call(graph: Any, ports: Mapping[str, Any]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    names = [port["name"] for port in ports["inputs"]]

    def call(inputs: Sequence[Any]) -> Sequence[Any]:
        given = [x.clamp(min=DEEPEST) if name == MASK else x for name, x in zip(names, inputs, strict=True)]
        found = graph(*given)
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)

    return call


def _answer(programs: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Write what methods answer before they are lowered, to the inputs in `probes`."""
    for name, file in payload["probes"].items():
        with np.load(file) as inputs, torch.no_grad():
            given = [torch.from_numpy(inputs[port["name"]]) for port in payload["ports"][name]["inputs"]]
            found = programs[name].module()(*given)
        answers = (found,) if isinstance(found, torch.Tensor) else found
        np.savez(payload["answers"][name], *(answer.numpy() for answer in answers))


def _lowered(programs: Mapping[str, Any], payload: Mapping[str, Any]) -> Any:
    """All methods in one edge program: those of the NPU by Qualcomm's partitioner, those of the CPU by XNNPACK's.

    The steps are those of `to_edge_transform_and_lower_to_qnn`, which knows only one partitioner.
    """
    from executorch.backends.qualcomm._passes.qnn_pass_manager import get_qnn_pass_manager_cls
    from executorch.backends.qualcomm.partition.qnn_partitioner import QnnPartitioner
    from executorch.backends.qualcomm.serialization.qc_schema import QnnExecuTorchBackendType
    from executorch.backends.qualcomm.utils.qnn_manager_lifecycle import QnnManagerContext
    from executorch.backends.qualcomm.utils.utils import qnn_edge_config
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    changing = get_qnn_pass_manager_cls(QnnExecuTorchBackendType.kHtpBackend)
    specs = _compiler_specs(payload)
    prepared, transforms, partitioners = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for name, program in programs.items():
        if name in payload["host"]:
            prepared[name], transforms[name], partitioners[name] = program, [], [XnnpackPartitioner()]
            continue
        passes = changing()
        prepared[name] = passes.transform_for_export_pipeline(program)
        transforms[name] = passes.get_to_edge_transform_passes(
            program, passes_job=None, dep_table=None, compiler_specs=specs
        )
        partitioners[name] = [QnnPartitioner(specs)]
    with QnnManagerContext({name: specs for name in programs if name not in payload["host"]}):
        return to_edge_transform_and_lower(
            prepared,
            transform_passes=transforms,
            partitioner=partitioners,
            constant_methods=payload["constants"],
            compile_config=qnn_edge_config(),
        )


def _compiler_specs(payload: Mapping[str, Any]) -> list[Any]:
    from executorch.backends.qualcomm.utils.utils import (
        generate_htp_compiler_spec,
        generate_qnn_executorch_compiler_spec,
    )

    options = generate_htp_compiler_spec(use_fp16=payload["precision"] not in CALIBRATED)
    specs: list[Any] = generate_qnn_executorch_compiler_spec(_chip(payload), options)
    return specs


def _delegation(graph: Any) -> dict[str, Any]:
    """Operators that a delegate takes and those left to the runtime's own kernels, by type; parts that it takes."""
    from executorch.devtools.backend_debug import get_delegation_info

    found = get_delegation_info(graph)
    kinds = {name: of for name, of in sorted(found.delegation_by_operator.items()) if name not in NO_WORK}
    return {
        "parts": found.num_delegated_subgraphs,
        "delegated": {name: of.delegated for name, of in kinds.items() if of.delegated},
        "not_delegated": {name: of.non_delegated for name, of in kinds.items() if of.non_delegated},
    }


def _require_delegated(methods: Mapping[str, Mapping[str, Any]]) -> None:
    left = {name: counts["not_delegated"] for name, counts in methods.items() if counts["not_delegated"]}
    if left:
        raise LoweringRefused(
            "Qualcomm's delegate does not take every operator",
            "; ".join(f"method '{name}': {_listed(kinds.items())}" for name, kinds in left.items()),
            "methods that the NPU computes as a whole",
            "report this with the model's shapes; another precision may be a way round it",
        )


def _listed(kinds: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in kinds)


def _write(edge: Any, output: Path) -> None:
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes import MemoryPlanningPass

    # Caches are read where they lie: a planned input would be copied at each call.
    planning = MemoryPlanningPass(alloc_graph_input=False)
    program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    with output.open("wb") as file:
        program.write_to_file(file)
