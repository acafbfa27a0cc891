"""The methods `mel`, `encoder`, `decoder` and, where it has one, `prefill` of one program, on the CPU with ExecuTorch.

What the native code of the runtime says about an error goes to file descriptor 2 and not into the exception: it is
caught and told.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .method_backend import Call, MethodBackend, MethodSession, program_file
from .transcript import RequestError

TOLD = 6
"""Lines of the runtime's own that an error shows."""


class ExecutorchBackend(MethodBackend):
    """The program of `directory`, as its `table` (manifest or artifact description) lists it.

    Args:
        threads: of the runtime, for all of this process; 0 leaves their number to it.
        traced: keep the times of all operators for `write_traces`; each method is a program of its own then.
    """

    def __init__(
        self, directory: Path, table: Mapping[str, Any], threads: int, *, traced: bool = False
    ) -> None:
        parts = table["components"]
        file, names = program_file(directory, parts)
        if traced:
            self._programs = {name: open_program(file, threads, traced=True) for name in names}
        else:
            self._programs = dict.fromkeys(names, open_program(file, threads))
        super().__init__(
            {
                name: MethodSession(name, load_method(self._programs[name], name), parts[name])
                for name in names
            }
        )

    def write_traces(self, folder: Path) -> dict[str, Path]:
        """Write the times of all calls so far as an ETDump for each method, where they were `traced`."""
        files = {name: folder / f"{name}.etdump" for name in self._programs}
        for name, file in files.items():
            self._programs[name].write_etdump_result_to_file(str(file), str(folder / "unused"))
        return files


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


def load_method(program: Any, name: str) -> Call:
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
