"""The child's side of the worker protocol: run one task, write its messages, end with the parent.

Started as a file by any interpreter (`python worker_child.py JOB`), so it imports only the standard library and
nothing of this package: an environment of a toolchain holds other versions of everything. JOB is a JSON file
`{"task", "payload", "parent", "paths"}`; `paths` stand first where modules are looked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY_HINT = "close other programs, choose a smaller model, or give the machine more memory"
TOLD = ("exit_code", "what", "where", "allowed", "fix")
"""What an exception must have to arrive at the parent as it was raised; others show their traceback."""


def main(job_file: str) -> int:
    """Run the task of `job_file` and write its messages, one JSON object a line; returns the exit status."""
    job = json.loads(Path(job_file).read_text())
    _die_with_parent(job["parent"])
    sys.path[:0] = job.get("paths", [])
    with _messages() as say:
        try:
            module, _, function = job["task"].partition(":")
            run = getattr(importlib.import_module(module), function)
            value = run(job["payload"], lambda done, total, unit: say({"progress": [done, total, unit]}))
        except MemoryError:
            told: dict[str, Any] = {"exit_code": 1, "what": "out of memory", "where": "", "allowed": ""}
            say({"error": {**told, "fix": OUT_OF_MEMORY_HINT}})
            return 1
        except Exception as error:
            if not all(hasattr(error, name) for name in TOLD):
                traceback.print_exc()
                return 1
            told = {name: getattr(error, name) for name in TOLD}
            say({"error": told | {"tail": getattr(error, "tail", "")}})
            return int(told["exit_code"])
        say({"value": value, "peak_bytes": peak_bytes()})
        return 0


def peak_bytes() -> int:
    """Largest resident set of this process so far.

    On Linux the high-water mark of the current address space: getrusage's ru_maxrss survives exec, so a child of a
    large process would report the parent's peak as its own.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def _messages() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Keep the real standard output for messages and send everything else that writes to it to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)

        def say(message: Mapping[str, Any]) -> None:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        yield say


def _die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when its parent is killed, so that nothing computes on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    # Python puts this file's directory first, and with it every module of the package under a short name.
    sys.path[:] = [
        path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
    ]
    sys.exit(main(sys.argv[1]))
