"""Modules made one TorchScript program and written for the lite interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocket_opt.executorch_graphs.methods import Method


class Whisper(nn.Module):
    """The modules of a model, each also as a method of this one."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: method.module for name, method in methods.items()})

    def mel(self, audio: Tensor) -> Any:
        """See `Mel`."""
        return self.parts["mel"](audio)

    def encoder(self, features: Tensor) -> Any:
        """See `Encoder`."""
        return self.parts["encoder"](features)

    def decoder(self, *inputs: Tensor) -> Any:
        """See `Decoder`."""
        return self.parts["decoder"](*inputs)


def traced(methods: Mapping[str, Method]) -> Any:
    """The modules as one scripted module with a method each; their shapes are fixed, so tracing sees all they do."""
    with quiet(), torch.no_grad():
        examples = {name: method.examples() for name, method in methods.items()}
        return torch.jit.trace_module(Whisper(methods).eval(), examples, check_trace=False)


def scripted(module: nn.Module) -> Any:
    """A module with its loops and branches."""
    with quiet():
        return torch.jit.script(module)


def write(module: Any, path: Path, *, prepack: bool, names: Sequence[str]) -> dict[str, Any]:
    """Write a scripted module for the lite interpreter.

    Args:
        prepack: let `optimize_for_mobile` fold layers into XNNPACK's packed form first.
        names: the methods that callers call.

    Returns:
        What a build of PyTorch's runtime must have to run it (`SELECTED_OP_LIST`).
    """
    if prepack:
        from torch.utils.mobile_optimizer import optimize_for_mobile

        module = optimize_for_mobile(module, preserved_methods=list(names))
    with quiet():
        module._save_for_lite_interpreter(str(path))
        return {"operators": sorted(torch.jit.export_opnames(module))}


def can_prepack() -> bool:
    """Whether this build of PyTorch has the XNNPACK that `optimize_for_mobile` needs."""
    return bool(torch._C._is_xnnpack_enabled())


@contextmanager
def quiet() -> Iterator[None]:
    """Without PyTorch's advice to move on to `torch.export`: what it refuses is why this is here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
