"""The methods `mel`, `encoder` and `decoder` of one TorchScript program, run by PyTorch's lite interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .method_backend import Call, MethodBackend, MethodSession, program_file
from .transcript import RequestError


class TorchscriptBackend(MethodBackend):
    """The program of `directory`, as its `table` (manifest or artifact description) lists it.

    Args:
        threads: of PyTorch, for all of this process; 0 leaves their number to it.
    """

    def __init__(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:
        parts = table["components"]
        file, names = program_file(directory, parts)
        module = open_program(file, threads)
        super().__init__({name: MethodSession(name, method(module, name), parts[name]) for name in names})


def open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> TorchscriptBackend:
    """The model that `table` describes; see TorchscriptBackend."""
    return TorchscriptBackend(directory, table, threads)


def open_program(path: Path, threads: int = 0) -> Any:
    """The program in a file, as a module of the lite interpreter; RequestError where there is none, or a damaged one.

    Tensors and code are read by TorchScript's own reader, which makes no object of Python's.
    """
    if not path.is_file():
        raise RequestError(f"{path}: the program is missing")
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.jit.mobile import _load_for_lite_interpreter

            return _load_for_lite_interpreter(str(path))
    except (RuntimeError, ValueError) as error:
        raise RequestError(
            f"{path}: no program for PyTorch's lite interpreter, a damaged one, or one whose operators this build of"
            f" PyTorch does not have\n  | {_first_line(error)}"
        ) from None


def method(module: Any, name: str) -> Call:
    """A method of the program, called with a list of tensors; RequestError where it has none of that name."""
    import torch

    if module.find_method(name) is False:
        raise RequestError(f"the program has no method '{name}'")

    def call(given: Any) -> Any:
        with torch.inference_mode():
            found = module.run_method(name, *given)
        return (found,) if isinstance(found, torch.Tensor) else found

    return call


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
