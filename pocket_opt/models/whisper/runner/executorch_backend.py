"""The methods `mel`, `encoder`, `decoder` and, where it has one, `prefill` of one program, on the CPU with ExecuTorch.

Every shape is fixed, so `static_backend` does the work; a method is opened here as what that calls a session. What the
native code of the runtime says about an error goes to file descriptor 2 and not into the exception: it is caught and
told.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .audio import Floats
from .static_backend import TEXT, StaticBackend
from .transcript import RequestError

METHODS = ("mel", "encoder", "decoder")
TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}
Call = Callable[[Sequence[Any]], Sequence[Any]]
CACHES = ("past_", "cross_", "new_")
TOLD = 6
"""Lines of the runtime's own that an error shows."""


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


class ExecutorchBackend(StaticBackend):
    """The program of `directory`, as its `table` (manifest or artifact description) lists it.

    Args:
        threads: of the runtime, for all of this process; 0 leaves their number to it.
        traced: keep the times of all operators for `write_traces`; each method is a program of its own then.
    """

    def __init__(
        self, directory: Path, table: Mapping[str, Any], threads: int, *, traced: bool = False
    ) -> None:
        parts = table["components"]
        if lacking := set(METHODS) - set(parts):
            raise RequestError(f"{directory}: lists no {', '.join(sorted(lacking))} to run")
        file = directory / parts["decoder"]["files"][0]
        names = tuple(dict.fromkeys((*METHODS, *(name for name in TEXT if name in parts))))
        if traced:
            self._programs = {name: open_program(file, threads, traced=True) for name in names}
        else:
            self._programs = dict.fromkeys(names, open_program(file, threads))
        super().__init__(
            {name: MethodSession(name, _load(self._programs[name], name), parts[name]) for name in names}
        )
        [audio] = self._sessions["mel"].get_inputs()
        self._samples = audio.shape[1]

    def session(self, name: str) -> MethodSession:
        """A method by its name."""
        found: MethodSession = self._sessions[name]
        return found

    def write_traces(self, folder: Path) -> dict[str, Path]:
        """Write the times of all calls so far as an ETDump for each method, where they were `traced`."""
        files = {name: folder / f"{name}.etdump" for name in self._programs}
        for name, file in files.items():
            self._programs[name].write_etdump_result_to_file(str(file), str(folder / "unused"))
        return files

    def features(self, batch: Floats | Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        clips = np.asarray(batch, np.float32)
        fitted = np.zeros((len(clips), self._samples), np.float32)
        fitted[:, : clips.shape[1]] = clips[:, : self._samples]
        return np.concatenate([self._sessions["mel"].run(None, {"audio": row[None]})[0] for row in fitted])


def open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> ExecutorchBackend:
    """The model that `table` describes; see ExecutorchBackend."""
    return ExecutorchBackend(directory, table, threads)


def open_program(path: Path, threads: int = 0, *, traced: bool = False) -> Any:
    """The program in a file; RequestError where there is none, or where it is damaged."""
    if not path.is_file():
        raise RequestError(f"{path}: the program is missing")
    with native_words() as words:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        if threads:
            portable_lib._unsafe_reset_threadpool(threads)
        try:
            return Runtime.get().load_program(path, enable_etdump=traced)
        except RuntimeError as error:
            raise RequestError(
                f"{path}: no ExecuTorch program, or a damaged one{_told(error, words)}"
            ) from None


def _load(program: Any, name: str) -> Call:
    """A method of the program; RequestError where it is not in it, or needs what this runtime lacks."""
    if name not in program.method_names:
        raise RequestError(
            f"the program has no method '{name}'; it has {', '.join(sorted(program.method_names))}"
        )
    with native_words() as words:
        try:
            call: Call = program.load_method(name).execute
            return call
        except RuntimeError as error:
            raise RequestError(
                f"method '{name}' needs a delegate or operators that this build of ExecuTorch does not have"
                f"{_told(error, words)}"
            ) from None


def _told(error: RuntimeError, words: IO[bytes]) -> str:
    """The exception and what native code printed before it."""
    sys.stderr.flush()
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    return "".join(f"\n  | {line}" for line in (str(error), *lines[-TOLD:]))


@contextlib.contextmanager
def native_words() -> Iterator[IO[bytes]]:
    """What is written to file descriptor 2, or by way of `sys.stderr`, goes to the file that this gives.

    The binding of the runtime takes the second way; libraries that it loads take the first.
    """
    with tempfile.TemporaryFile() as words, os.fdopen(os.dup(words.fileno()), "a") as text:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(words.fileno(), 2)
        try:
            with contextlib.redirect_stderr(text):
                yield words
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _port(table: Mapping[str, Any]) -> Port:
    name, own = str(table["name"]), tuple(int(size) for size in table["shape"])
    clip = name == "tokens" or name.startswith(CACHES)
    return Port(name, TYPES[table["dtype"]], (1, *own) if clip else own, own)
