"""An ExecuTorch program that a process of the toolchain `et_qnn` runs, called as one of this process is.

Qualcomm's libraries have to be known to a process before it starts, and those that the delegate works with are of
another version than the ones here.
"""

from __future__ import annotations

import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from pocket_opt import worker
from pocket_opt.models.whisper import runner
from pocket_opt.models.whisper.runner.method_backend import Call
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.qnn.libraries import libraries
from pocket_opt.toolchains import load_toolchain
from pocket_opt.toolchains.environments import ALONE, require
from pocket_opt.toolchains.et_qnn.serve import receive, send

TOOLCHAIN = "et_qnn"
LAST_LINES = 6
"""Of what the process printed, in an error."""


class RemoteProgram:
    """A program in the file `path`.

    Attributes:
        method_names: what it can be asked.
    """

    def __init__(self, path: Path) -> None:
        toolchain = load_toolchain(TOOLCHAIN)
        environment, held = require(toolchain), ExitStack()
        words = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the rest)
        self._words = held.enter_context(words)
        surroundings = held.enter_context(libraries(environment))
        place = Path(runner.__file__).parents[1]
        command = [environment.python, toolchain.folder / "serve.py", path, place]
        self._child = held.enter_context(_started(command, {**ALONE, **surroundings}, self._words))
        self._end = weakref.finalize(self, _close, self._child, held)
        told, _ = self._received()
        self.method_names = frozenset(told["methods"])

    def load_method(self, name: str) -> Call:
        """A method by its name; it takes tensors and gives tensors."""

        def call(inputs: Sequence[Any]) -> Sequence[Any]:
            import torch

            return [torch.from_numpy(array) for array in self._ask(name, [one.numpy() for one in inputs])]

        return call

    def close(self) -> None:
        """End the process."""
        self._end()

    def _ask(self, name: str, arrays: Sequence[Any]) -> list[Any]:
        """The outputs of a method for its inputs; RequestError where it failed, or the process ended."""
        assert self._child.stdin is not None
        try:
            send(self._child.stdin, {"method": name}, arrays)
        except OSError:
            raise self._ended() from None
        return self._received()[1]

    def _received(self) -> tuple[dict[str, Any], list[Any]]:
        assert self._child.stdout is not None
        try:
            told, arrays = receive(self._child.stdout)
        except (EOFError, ValueError):
            raise self._ended() from None
        if "error" in told:
            raise RequestError(told["error"])
        return told, arrays

    def _ended(self) -> RequestError:
        status = self._child.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        told = "".join(f"\n  | {line}" for line in lines)
        return RequestError(f"the process that runs the program ended with status {status}{told}")


def _started(command: Sequence[Any], env: dict[str, str], words: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process, which ends when nobody asks any more."""
    return subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        env=worker.apart() | env,
    )


def _close(child: subprocess.Popen[bytes], held: ExitStack) -> None:
    child.kill()
    with suppress(BrokenPipeError):  # of what it was not told to the end
        held.close()
