"""Methods to the toolchain that compiles for Qualcomm's NPU, as files, and what its program answers there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pocket_opt.errors import PocketOptError
from pocket_opt.executorch_graphs.checks import random_feeds
from pocket_opt.executorch_graphs.layers import EPSILON, LayerNorm
from pocket_opt.executorch_graphs.lowering import capture
from pocket_opt.executorch_graphs.methods import Method
from pocket_opt.models.whisper import runner
from pocket_opt.models.whisper.runner.method_backend import MethodSession
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.qnn.libraries import libraries
from pocket_opt.runtimes.remote_program import RemoteProgram
from pocket_opt.toolchains import Toolchain
from pocket_opt.toolchains.environments import call, require

if TYPE_CHECKING:
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.calibration import Heard

HOST = ("mel",)
"""Methods that the CPU computes: the logarithm is of small numbers, and 16 bits do not hold them."""


def with_own_norms(module: nn.Module) -> nn.Module:
    """`module`, its norms changed in place to the operator that the NPU has."""
    for name, part in list(module.named_children()):
        if isinstance(part, LayerNorm):
            norm = nn.LayerNorm(len(part.weight), eps=EPSILON)
            norm.weight = nn.Parameter(part.weight, requires_grad=False)
            norm.bias = nn.Parameter(part.bias, requires_grad=False)
            setattr(module, name, norm)
        else:
            with_own_norms(part)
    return module


def lower(
    toolchain: Toolchain,
    methods: Mapping[str, Method],
    heard: Sequence[Heard],
    told: Mapping[str, Any],
    place: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Let the toolchain quantize and lower the methods; its report.

    Args:
        heard: the calibration clips; empty where nothing is quantized.
        told: the rest of the payload, see `toolchains/et_qnn/lower.py`.
        place: a folder for what the two hand to one another. Inputs and answers of each method of the NPU stay there;
            see `compare`.
    """
    programs = {}
    for name, method in methods.items():
        programs[name] = str(place / f"{name}.pt2")
        torch.export.save(capture(method), programs[name])
    clips = [str(place / f"clip-{number}.npz") for number in range(len(heard))]
    for file, one in zip(clips, heard, strict=True):
        np.savez(file, features=one.features, tokens=one.forced.tokens, prompt=one.forced.prompt)
    probed = {name: method for name, method in methods.items() if name not in HOST}
    for name, method in probed.items():
        np.savez(_inputs(place, name), **random_feeds(method.inputs))  # type: ignore[arg-type]
    payload = {
        **told,
        "programs": programs,
        "ports": {name: method.ports() for name, method in methods.items()},
        "host": list(HOST),
        "heard": clips,
        "runner": str(Path(runner.__file__).parents[1]),
        "probes": {name: str(_inputs(place, name)) for name in probed},
        "answers": {name: str(_answers(place, name)) for name in probed},
    }
    with libraries(require(toolchain)) as env:
        reply = call(toolchain, "lower:lower", payload, env=env, on_progress=progress)
    return {**reply.value, "peak_bytes": reply.peak_bytes}


def compare(
    methods: Mapping[str, Method], program: Path, place: Path, *, least_db: float, simulate_below: float
) -> dict[str, Any]:
    """For each method of the NPU, SQNR in dB of the simulated program against the graph before it was lowered.

    Methods with more products than `simulate_below` are left out, and that is said.

    Raises:
        PocketOptError: it is below `least_db`.
    """
    found, opened = dict[str, Any](), RemoteProgram(program)
    for name, method in methods.items():
        if name in HOST:
            continue
        products = _products(method)
        if products > simulate_below:
            found[name] = f"not simulated: {products:.1e} products take too long"
            continue
        session = MethodSession(name, opened.load_method(name), method.ports())
        with np.load(_inputs(place, name)) as inputs, np.load(_answers(place, name)) as answers:
            given = session.run(None, inputs)
            level = min(
                sqnr_db(old.reshape(new.shape), new) for old, new in zip(answers.values(), given, strict=True)
            )
        if not level >= least_db:
            raise PocketOptError(
                f"method '{name}' does not compute what it was made of: SQNR {level:.1f} dB in the simulator",
                where="the program in ExecuTorch's runtime",
                allowed=f"at least {least_db:.0f} dB",
                fix="choose a precision with more bits; where there is none, report this with the model's shapes",
            )
        found[name] = round(level, 1)
    opened.close()
    return found


def _products(method: Method) -> float:
    """Multiplications of one call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        method.module(*method.examples())
    return float(counter.get_total_flops()) / 2


def _inputs(place: Path, name: str) -> Path:
    return place / f"{name}-inputs.npz"


def _answers(place: Path, name: str) -> Path:
    return place / f"{name}-answers.npz"
