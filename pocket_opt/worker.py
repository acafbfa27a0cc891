"""One protocol for every child process: a function by name, JSON in and out, progress, time-out, stderr's tail.

The parent starts `python worker_child.py JOB`, where JOB is a JSON file `{"task", "payload"}` and `task` names a
function `module:function(payload, progress) -> JSON`. The child writes one JSON object a line to its standard output
(progress, then result or error) and everything else to standard error, also what native libraries print. A crash,
a time-out or an out-of-memory kill ends only the child: the parent raises WorkerError with the last lines.

The interpreter may be that of another environment. Then `folder` names where its task lies, and nothing of this
environment is to be seen in the child: its packages would hide those of the other one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.scratch import scratch
from pocket_opt.worker_child import OUT_OF_MEMORY_HINT

TAIL_LINES = 15
CHILD = Path(__file__).with_name("worker_child.py")
FOREIGN = ("PYTHONPATH", "PYTHONHOME")
"""Environment variables that would lead another interpreter to packages that are not its own."""


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
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    on_progress: Callable[[int, int, str], None] = silent,
) -> Reply:
    """Run `task` ("module:function") with `payload` in a child process and return its reply.

    Args:
        folder: where the task's module lies that `python`, an interpreter of another environment, is to run; None for
            modules of this package and its environment.

    Raises:
        WorkerError: it crashed, was killed, ran longer than `timeout_s` seconds, or replied with nothing.
        PocketOptError, UserError: as the task raised them.
    """
    described = {"task": task, "payload": payload, "parent": os.getpid()}
    with scratch("job") as place:
        job = place / "job.json"
        job.write_text(json.dumps(described | {"paths": [str(folder)] if folder else []}))
        surroundings = {**(apart() if folder else _as_here()), **(env or {})}
        with (place / "stderr").open("w+b") as stderr:
            return _supervise(job, stderr, python, surroundings, timeout_s, on_progress)


def call_all(
    task: str, payloads: Sequence[Mapping[str, Any]], *, on_progress: Callable[[int, int, str], None] = silent
) -> list[Reply]:
    """Run `task` with every payload at once, each in a child of its own; replies in their order.

    Progress is that of all together. When one fails the others end at their next progress.

    Raises:
        WorkerError, PocketOptError, UserError: see `call`, of the child that failed first.
    """
    known: dict[int, tuple[int, int]] = {}
    lock, failures = threading.Lock(), list[BaseException]()

    def one(number: int) -> Reply:
        def follow(done: int, total: int, unit: str) -> None:
            with lock:
                if failures:
                    raise failures[0]
                known[number] = done, total
                if len(known) == len(payloads):  # before that the total is not known
                    all_done, all_in_all = (sum(column) for column in zip(*known.values(), strict=True))
                    on_progress(all_done, all_in_all, unit)

        try:
            return call(task, payloads[number], on_progress=follow)
        except BaseException as error:
            with lock:
                failures.append(error)
            raise

    with ThreadPoolExecutor(len(payloads)) as pool:
        runs = [pool.submit(one, number) for number in range(len(payloads))]
    if failures:
        raise failures[0]
    return [run.result() for run in runs]


def _supervise(
    job: Path,
    stderr: IO[bytes],
    python: str,
    env: Mapping[str, str],
    timeout_s: float | None,
    on_progress: Callable[[int, int, str], None],
) -> Reply:
    child = _start([python, str(CHILD), str(job)], stderr, env)
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


def _start(command: list[str], stderr: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
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
        said = {name: error[name] for name in ("where", "allowed", "fix")}
        if error.get("tail"):  # of a worker that the task had started
            raise WorkerError(error["what"], tail=error["tail"], **said)
        kind = UserError if error["exit_code"] == UserError.exit_code else PocketOptError
        raise kind(error["what"], **said)
    if status == 0 and "value" in last:
        return Reply(last["value"], int(last["peak_bytes"]))
    if status == -signal.SIGKILL:
        raise WorkerError("it was killed, most likely out of memory", tail=tail, fix=OUT_OF_MEMORY_HINT)
    if status < 0:
        raise WorkerError(f"it crashed with {signal.Signals(-status).name}", tail=tail)
    raise WorkerError(f"it ended with exit status {status} and no result", tail=tail)


def _as_here() -> dict[str, str]:
    """The parent's environment, able to import this package."""
    package_root = str(Path(__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def apart() -> dict[str, str]:
    """The environment variables of this process without what leads to its packages, for another interpreter."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "PYTHONNOUSERSITE": "1"}


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return "\n".join(stderr.read().decode(errors="replace").strip().splitlines()[-TAIL_LINES:])
