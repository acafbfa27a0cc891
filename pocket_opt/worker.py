"""One protocol for every child process: a function by name, JSON in and out, progress, time-out, stderr's tail.

The parent starts `python -m pocket_opt.worker JOB`, where JOB is a JSON file `{"task", "payload"}` and `task` names a
function `module:function(payload, progress) -> JSON`. The child writes one JSON object a line to its standard output
(progress, then result or error) and everything else to standard error, also what native libraries print. A crash,
a time-out or an out-of-memory kill ends only the child: the parent raises WorkerError with the last lines. This
module imports only the standard library and the errors, so that interpreters of other environments can run it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.scratch import scratch

TAIL_LINES = 15
PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY_HINT = "close other programs, choose a smaller model, or give the machine more memory"


class WorkerError(PocketOptError):
    """A child process crashed, was killed or ran out of time; `tail` holds the last lines of its stderr."""

    def __init__(
        self, what: str, *, tail: str = "", where: str = "", allowed: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, where=where, allowed=allowed, fix=fix)
        self.tail = tail

    def __reduce__(self) -> tuple[object, ...]:
        return *super().__reduce__(), {"tail": self.tail}

    def __str__(self) -> str:
        indented = "".join(f"\n  | {line}" for line in self.tail.splitlines())
        return super().__str__() + (f"\n  last lines of its output:{indented}" if indented else "")


@dataclass(frozen=True)
class Reply:
    """What a child returned: its JSON `value` and its peak resident memory in bytes."""

    value: Any
    peak_bytes: int


def silent(done: int, total: int, unit: str) -> None:
    """A progress callback that shows nothing."""


def call(
    task: str,
    payload: Mapping[str, Any],
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    on_progress: Callable[[int, int, str], None] = silent,
) -> Reply:
    """Run `task` ("module:function") with `payload` in a child process and return its reply.

    Raises:
        WorkerError: it crashed, was killed, ran longer than `timeout_s` seconds, or replied with nothing.
        PocketOptError, UserError: as the task raised them.
    """
    with scratch("job") as folder:
        job = folder / "job.json"
        job.write_text(json.dumps({"task": task, "payload": payload, "parent": os.getpid()}))
        with (folder / "stderr").open("w+b") as stderr:
            return _supervise(job, stderr, python, env, timeout_s, on_progress)


def _supervise(
    job: Path,
    stderr: IO[bytes],
    python: str,
    env: Mapping[str, str] | None,
    timeout_s: float | None,
    on_progress: Callable[[int, int, str], None],
) -> Reply:
    child = _start([python, "-m", "pocket_opt.worker", str(job)], stderr, env)
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(min(timeout_s or threading.TIMEOUT_MAX, threading.TIMEOUT_MAX), stop)
    timer.daemon = True
    timer.start()
    threading.Thread(target=_reap, args=(child,), daemon=True).start()
    try:
        last = _last_message(child, on_progress)
        child.wait()
    finally:
        timer.cancel()
        _kill(child)
    if late.is_set():
        raise WorkerError(
            f"it ran longer than {timeout_s:g} s and was stopped", tail=_tail(stderr), fix="raise timeout_s"
        )
    return _reply(last, child.returncode, _tail(stderr))


def _start(command: list[str], stderr: IO[bytes], env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(env),
            start_new_session=True,
        )
    except OSError as error:
        raise WorkerError(
            f"the interpreter cannot be started ({error.strerror})",
            where=command[0],
            fix="install it, or correct its path",
        ) from error


def _reap(child: subprocess.Popen[bytes]) -> None:
    """When the child ends, end what it started: a fork that holds the pipe would keep the reader waiting."""
    child.wait()
    _kill(child)


def _last_message(
    child: subprocess.Popen[bytes], on_progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Follow the child's messages to the end, passing progress on; the last one holds result or error."""
    last: dict[str, Any] = {}
    assert child.stdout is not None
    with child.stdout as stream:
        for line in stream:
            message = _message(line)
            if "progress" in message:
                on_progress(*message["progress"])
            last = message or last
    return last


def _message(line: bytes) -> dict[str, Any]:
    """One message, or nothing for a line that an interpreter printed while it started."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _reply(last: dict[str, Any], status: int, tail: str) -> Reply:
    if "error" in last:
        error = last["error"]
        kind = UserError if error["exit_code"] == UserError.exit_code else PocketOptError
        raise kind(error["what"], where=error["where"], allowed=error["allowed"], fix=error["fix"])
    if status == 0 and "value" in last:
        return Reply(last["value"], int(last["peak_bytes"]))
    if status == -signal.SIGKILL:
        raise WorkerError("it was killed, most likely out of memory", tail=tail, fix=OUT_OF_MEMORY_HINT)
    if status < 0:
        raise WorkerError(f"it crashed with {signal.Signals(-status).name}", tail=tail)
    raise WorkerError(f"it ended with exit status {status} and no result", tail=tail)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The parent's environment, able to import this package, with `extra` on top."""
    package_root = str(Path(__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **(extra or {})}


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return "\n".join(stderr.read().decode(errors="replace").strip().splitlines()[-TAIL_LINES:])


def main(job_file: str) -> int:
    """The child's side: run the task of `job_file` and write its messages."""
    job = json.loads(Path(job_file).read_text())
    _die_with_parent(job["parent"])
    with _messages() as say:
        try:
            module, _, function = job["task"].partition(":")
            run = getattr(importlib.import_module(module), function)
            value = run(job["payload"], lambda done, total, unit: say({"progress": [done, total, unit]}))
        except PocketOptError as error:
            say({"error": {"exit_code": error.exit_code, **_fields(error)}})
            return error.exit_code
        except MemoryError:
            say(
                {
                    "error": {
                        "exit_code": 1,
                        "what": "out of memory",
                        "where": "",
                        "allowed": "",
                        "fix": OUT_OF_MEMORY_HINT,
                    }
                }
            )
            return 1
        except Exception:
            traceback.print_exc()
            return 1
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


def _fields(error: PocketOptError) -> dict[str, str]:
    return {"what": error.what, "where": error.where, "allowed": error.allowed, "fix": error.fix}


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
    sys.exit(main(sys.argv[1]))
