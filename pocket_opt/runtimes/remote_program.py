"""An ExecuTorch program that a process of the toolchain `et_qnn` runs, called as one of this process is.

Qualcomm's libraries have to be known to a process before it starts, and those that the delegate works with are of
another version than the ones here.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from pocket_opt import worker
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper import runner
from pocket_opt.models.whisper.runner.method_backend import Call
from pocket_opt.qnn.libraries import libraries
from pocket_opt.toolchains import load_toolchain
from pocket_opt.toolchains.environments import ALONE, require
from pocket_opt.toolchains.et_qnn.serve import receive, send
from pocket_opt.worker_child import OUT_OF_MEMORY_HINT

TOOLCHAIN = "et_qnn"
LAST_LINES = 6
"""Of what the process printed, in an error."""
ENDS_WITHIN_S = 10.0
"""A process that answers no more has ended by then, or is made to."""
BUILD_AGAIN = "build the model again, with the toolchain that is installed here"


class RemoteProgram:
    """A program in the file `path`.

    Attributes:
        method_names: what it can be asked.

    Raises:
        UserError: the toolchain is not installed.
        PocketOptError: this is no program, or not one for the libraries that are here.
    """

    def __init__(self, path: Path) -> None:
        toolchain = load_toolchain(TOOLCHAIN)
        environment = require(toolchain)
        self._path = path
        with ExitStack() as held:
            words = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the rest)
            self._words = held.enter_context(words)
            surroundings = held.enter_context(libraries(environment))
            place = Path(runner.__file__).parents[1]
            command = [environment.python, toolchain.folder / "serve.py", path, place]
            self._child = _started(command, {**ALONE, **surroundings}, self._words)
            held.callback(_end, self._child)
            told, _ = self._received()
            self._end = weakref.finalize(self, held.pop_all().close)
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
        """The outputs of a method for its inputs; PocketOptError where it failed, or the process ended."""
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
            raise PocketOptError(told["error"], where=str(self._path), fix=BUILD_AGAIN)
        return told, arrays

    def _ended(self) -> worker.WorkerError:
        """What to say of a process that answers no more, with the last lines that it printed."""
        try:
            how = _status(self._child.wait(ENDS_WITHIN_S))
        except subprocess.TimeoutExpired:
            self._child.kill()
            how = "does not answer"
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        killed = self._child.returncode == -signal.SIGKILL
        return worker.WorkerError(
            f"the process that runs the program {how}",
            tail="\n".join(lines),
            where=str(self._path),
            fix=OUT_OF_MEMORY_HINT if killed else BUILD_AGAIN,
        )


def _status(status: int) -> str:
    return f"ended with {signal.Signals(-status).name if status < 0 else f'status {status}'}"


def _started(command: Sequence[Any], env: dict[str, str], words: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process, which ends when nobody asks any more."""
    return subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        env=worker.apart() | env,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the process; what it was still being told is dropped."""
    child.kill()
    child.wait()
    assert child.stdin is not None
    assert child.stdout is not None
    for stream in (child.stdin, child.stdout):
        with suppress(OSError):
            stream.close()
