"""What the tests of the worker let it do: succeed, fail, crash, hang, print, and start processes of its own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pocket_opt.errors import PocketOptError, UserError

Progress = Callable[[int, int, str], None]


def double(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    progress(1, 2, "clips")
    progress(2, 2, "clips")
    return {"doubled": payload["number"] * 2, "text": "ü", "none": None}


def surroundings(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    return {"python": sys.executable, "value": os.environ.get("WORKER_TEST"), "stdin": sys.stdin.read()}


def raise_user_error(payload: dict[str, Any], progress: Progress) -> None:
    raise UserError("no such clip", where="clip.wav", allowed="wav", fix="convert it")


def raise_failure(payload: dict[str, Any], progress: Progress) -> None:
    raise PocketOptError("the graph is invalid", where="node 3")


def raise_exception(payload: dict[str, Any], progress: Progress) -> None:
    for number in range(40):
        print(f"line {number}", file=sys.stderr)
    raise ValueError("unforeseen")


def raise_memory_error(payload: dict[str, Any], progress: Progress) -> None:
    raise MemoryError


def return_what_is_no_json(payload: dict[str, Any], progress: Progress) -> object:
    return object()


def leave(payload: dict[str, Any], progress: Progress) -> None:
    sys.exit(payload["status"])


def vanish(payload: dict[str, Any], progress: Progress) -> None:
    os._exit(0)


def segfault(payload: dict[str, Any], progress: Progress) -> None:
    print("about to touch memory that is not ours", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def be_killed(payload: dict[str, Any], progress: Progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(payload: dict[str, Any], progress: Progress) -> None:
    Path(payload["pid_file"]).write_text(str(os.getpid()))
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)


def hang_with_child(payload: dict[str, Any], progress: Progress) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(payload["pid_file"]).write_text(str(child.pid))
    if payload["then"] == "hang":
        time.sleep(60)
    if payload["then"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)


def crash_leaving_a_fork(payload: dict[str, Any], progress: Progress) -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    Path(payload["pid_file"]).write_text(str(pid))
    os.kill(os.getpid(), signal.SIGSEGV)


def print_everywhere(payload: dict[str, Any], progress: Progress) -> str:
    print('{"value": "forged", "peak_bytes": 1}', flush=True)
    libc = ctypes.CDLL(None)
    libc.printf(b"printed by a native library\n")
    libc.fflush(None)
    os.write(1, b'{"value": "forged"}\n')
    subprocess.run(["echo", '{"value": "forged by a child"}'], check=True)
    progress(1, 1, "print")
    return "real"


def allocate(payload: dict[str, Any], progress: Progress) -> int:
    block = bytearray(os.urandom(1) * payload["bytes"])
    return len(block)


def nested(payload: dict[str, Any], progress: Progress) -> Any:
    from pocket_opt import worker

    return worker.call(f"worker_tasks:{payload.get('task', 'double')}", payload).value


def much(payload: dict[str, Any], progress: Progress) -> str:
    sys.stderr.write("e" * 1_000_000)
    return "v" * 1_000_000


if __name__ == "__main__":
    from pocket_opt import worker

    print(json.dumps(worker.call(sys.argv[1], json.loads(sys.argv[2])).value))


def fail_or_work_on(payload: dict[str, Any], progress: Progress) -> None:
    """Fail at once, or go on for minutes and tell of it."""
    if payload["fails"]:
        raise_failure(payload, progress)
    for step in range(6_000):
        progress(step, 6_000, "steps")
        time.sleep(0.05)
