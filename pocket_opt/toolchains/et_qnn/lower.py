"""Quantizes captured methods and gives them to Qualcomm's delegate; runs in the toolchain's environment, stand-alone.

What it needs of the package arrives as files: `torch.export` programs, calibration clips as arrays, and the folder of
the runner that every bundle carries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = "QNN_SDK_ROOT"
FLOATS = "fp16"
"""The precision that is not quantized; `quantize` knows the others."""

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
    (`host`), `constants`, `precision`, `soc_model`, and where it is calibrated `runner`, `heard` and `least_heard_db`;
    `probes` holds inputs of methods, whose answers before lowering go to `answers`.
    """
    _require_libraries()
    _chip(payload)
    from executorch.backends.qualcomm.utils.check_qnn_version import describe_sdk_build_id

    programs = {name: torch.export.load(path) for name, path in payload["programs"].items()}
    agreement = {}
    if payload["precision"] != FLOATS:
        from quantize import compare, quantized  # type: ignore[import-not-found]

        floats = {name: program for name, program in programs.items() if name not in payload["host"]}
        programs |= (rounded := quantized(floats, payload, _chip(payload), progress))
        agreement = compare(floats, rounded, payload)
        _require_agreement(agreement, payload["least_heard_db"])
    _answer(programs, payload)
    edge = _lowered(programs, payload)
    methods = {name: _delegation(edge.exported_program(name).graph_module) for name in programs}
    _require_delegated({name: methods[name] for name in programs if name not in payload["host"]})
    _write(edge, Path(payload["output"]))
    named = ("executorch", "torch", "torchao", "onnxruntime-qnn")
    return {
        "methods": methods,
        "agreement": agreement,
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
    """ExecuTorch's name of the chip, if it takes it for the same."""
    from executorch.backends.qualcomm.serialization.qc_schema import _soc_info_table as known

    chip = next((chip for chip in known if chip == payload["soc_model"]), None)
    if chip is None:
        raise LoweringRefused(
            f"ExecuTorch knows no chip with the number {payload['soc_model']}",
            "target.soc.soc_model",
            ", ".join(sorted(f"{chip.name} {int(chip)}" for chip in known)),
            "choose another chip",
        )
    htp = known[chip].htp_info
    found = {"htp_arch": int(htp.htp_arch), "vtcm_mb": int(htp.vtcm_size_in_mb)}
    if wrong := {name: payload[name] for name, value in found.items() if payload[name] != value}:
        raise LoweringRefused(
            f"ExecuTorch has another {chip.name} than the one that is described",
            ", ".join(f"target.soc.{name}={value}" for name, value in wrong.items()),
            ", ".join(f"{name}={value}" for name, value in found.items()),
            "correct the description: the program would be made for ExecuTorch's",
        )
    return chip


def _require_agreement(agreement: Mapping[str, float], least_db: float) -> None:
    for what, found in agreement.items():
        if what.endswith("_db") and not found >= least_db:
            raise LoweringRefused(
                f"quantized methods no longer agree with the float ones: {what} {found}",
                "calibration clips, fed the same tokens",
                f"at least {least_db:.0f} dB",
                "set nodes.program.params.precision=16a8w, or more calibration_clips",
            )


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

    options = generate_htp_compiler_spec(use_fp16=payload["precision"] == FLOATS)
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
    left = {
        name: _listed(counts["not_delegated"].items()) or "none is left out"
        for name, counts in methods.items()
        if counts["not_delegated"] or counts["parts"] != 1
    }
    if left:
        raise LoweringRefused(
            "Qualcomm's delegate does not take every operator, all in one part",
            "; ".join(
                f"method '{name}', {methods[name]['parts']} parts: {kinds}" for name, kinds in left.items()
            ),
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
    try:
        with output.open("wb") as file:
            program.write_to_file(file)
    except OSError as error:
        output.unlink(missing_ok=True)
        raise LoweringRefused(
            f"the program cannot be written ({error.strerror})",
            str(output),
            "",
            "free some space, or move POCKET_OPT_HOME to another disk",
        ) from error
