"""Methods of one program, called as sessions of ONNX Runtime are: named arrays in, named arrays out, fixed shapes.

Every shape is fixed, so `static_backend` does the work. Which runtime calls a method, the modules beside this one know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .static_backend import TEXT, StaticBackend
from .transcript import RequestError

METHODS = ("mel", "encoder", "decoder")
TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}
Call = Callable[[Sequence[Any]], Sequence[Any]]
CACHES = ("past_", "cross_", "new_")


@dataclass(frozen=True)
class Port:
    """An input or output as sessions name it; caches and tokens have a clip axis that the method leaves out.

    Attributes:
        own: the shape that the method takes or gives.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    own: tuple[int, ...]


class MethodSession:
    """A method that is called as a session of ONNX Runtime is.

    Args:
        call: takes a list of tensors and gives one.
        part: the method's ports, as a manifest tells them.
    """

    def __init__(self, name: str, call: Call, part: Mapping[str, Any]) -> None:
        self._name, self._call = name, call
        self._inputs, self._outputs = ([_port(port) for port in part[side]] for side in ("inputs", "outputs"))

    def get_inputs(self) -> list[Port]:
        """The inputs in the order of the method's arguments."""
        return self._inputs

    def get_outputs(self) -> list[Port]:
        """The outputs in the order of the method's results."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs `names`, by default all, for arrays of the shapes that `get_inputs` tells; none is copied."""
        import torch

        given = [
            torch.from_numpy(np.ascontiguousarray(feeds[port.name]).reshape(port.own))
            for port in self._inputs
        ]
        try:
            results = self._call(given)
        except RuntimeError as error:
            raise RequestError(f"method '{self._name}' failed: {error}") from None
        found = {
            port.name: result.numpy().reshape(port.shape)
            for port, result in zip(self._outputs, results, strict=True)
        }
        return [found[name] for name in names or found]


class MethodBackend(StaticBackend):
    """The methods of a program, opened as `sessions`."""

    def __init__(self, sessions: Mapping[str, MethodSession]) -> None:
        super().__init__(sessions)
        [audio] = self._sessions["mel"].get_inputs()
        self._samples = audio.shape[1]

    def session(self, name: str) -> MethodSession:
        """A method by its name."""
        found: MethodSession = self._sessions[name]
        return found

    def features(self, batch: Floats | Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        clips = np.asarray(batch, np.float32)
        fitted = np.zeros((len(clips), self._samples), np.float32)
        fitted[:, : clips.shape[1]] = clips[:, : self._samples]
        return np.concatenate([self._sessions["mel"].run(None, {"audio": row[None]})[0] for row in fitted])


def program_file(directory: Path, parts: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """The file that holds the methods of a table of components, and their names; RequestError where some lack."""
    if lacking := set(METHODS) - set(parts):
        raise RequestError(f"{directory}: lists no {', '.join(sorted(lacking))} to run")
    names = tuple(dict.fromkeys((*METHODS, *(name for name in TEXT if name in parts))))
    return directory / parts["decoder"]["files"][0], names


def _port(table: Mapping[str, Any]) -> Port:
    name, own = str(table["name"]), tuple(int(size) for size in table["shape"])
    clip = name == "tokens" or name.startswith(CACHES)
    return Port(name, TYPES[table["dtype"]], (1, *own) if clip else own, own)
