"""Environments of toolchains: made once under the home, then used by workers; a half-made one is never used.

An environment lies in `POCKET_OPT_HOME/toolchains/<name>-<interpreter>-<digest of the pins>`, so other pins are another
environment. Virtual environments hold their own path and cannot be renamed, so it is made where it stays, and its
record is written last, in one step: without the record it does not exist. It holds no pip, and none that a tool starts
reaches an index, for exporters are known to install packages while they run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pocket_opt import worker
from pocket_opt.disk import storage_error
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.home import home, read_json, write_atomically
from pocket_opt.scratch import remove_tree
from pocket_opt.toolchains import Toolchain

RECORD = "toolchain.json"
ALONE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PIP_NO_INDEX": "1",
}
"""Environment variables of every task: no network, no telemetry, and whatever pip is found installs nothing."""

TAIL_LINES = 15


@dataclass(frozen=True)
class Environment:
    """A finished environment.

    Attributes:
        versions: distribution -> version as installed (torch may carry the build, as in 2.13.0+cpu).
    """

    root: Path
    python: Path
    versions: Mapping[str, str]


def place_of(toolchain: Toolchain) -> Path:
    """Where the environment is, or would be."""
    interpreter = f"{sys.implementation.name}{sys.version_info.major}.{sys.version_info.minor}"
    return _room() / f"{toolchain.name}-{interpreter}-{toolchain.digest()[:16]}"


def find(toolchain: Toolchain) -> Environment | None:
    """The finished environment of `toolchain`, or None."""
    root = place_of(toolchain)
    record, python = read_json(root / RECORD), _python(root)
    if not isinstance(record, dict) or record.get("digest") != toolchain.digest() or not python.exists():
        return None
    return Environment(root, python, dict(record.get("versions", {})))


def require(toolchain: Toolchain) -> Environment:
    """The environment of `toolchain`.

    Raises:
        UserError: it is not installed; the command that installs it is named.
    """
    found = find(toolchain)
    if found is None:
        raise UserError(
            f"the toolchain '{toolchain.name}' is not installed: {toolchain.summary}",
            where=str(place_of(toolchain)),
            allowed="an environment of its own; it is not installed unasked, because it downloads much",
            fix=f"run `pocket-opt toolchain install {toolchain.name}`, or set toolchains.install=true",
        )
    return found


def call(
    toolchain: Toolchain,
    task: str,
    payload: Mapping[str, Any],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    on_progress: Callable[[int, int, str], None] = worker.silent,
) -> worker.Reply:
    """Run `task` ("module:function" of the toolchain's folder) in its environment; see `worker.call`.

    Args:
        env: environment variables that the task needs besides.

    Raises:
        UserError: the environment is not installed.
    """
    python = str(require(toolchain).python)
    return worker.call(
        task,
        payload,
        python=python,
        folder=toolchain.folder,
        env={**ALONE, **(env or {})},
        timeout_s=timeout_s,
        on_progress=on_progress,
    )


def install(toolchain: Toolchain, say: Callable[[str], None]) -> Environment:
    """Make the environment of `toolchain` unless it is there; `say` hears pip's lines.

    Raises:
        PocketOptError: no pip here, a distribution cannot be had, or the disk refused; nothing is left behind.
    """
    with _locked(toolchain.name):
        found = find(toolchain)
        if found is not None:
            return found
        root = place_of(toolchain)
        remove_tree(root)
        try:
            return _make(toolchain, root, say)
        except BaseException:
            remove_tree(root)
            raise


def remove(toolchain: Toolchain) -> int:
    """Remove all environments of `toolchain`, also those of other pins; returns how many."""
    with _locked(toolchain.name):
        roots = [path for path in _room().glob(f"{toolchain.name}-*-*") if path.is_dir()]
        for root in roots:
            (root / RECORD).unlink(missing_ok=True)
            remove_tree(root)
        return len(roots)


def _make(toolchain: Toolchain, root: Path, say: Callable[[str], None]) -> Environment:
    if importlib.util.find_spec("pip") is None:
        raise PocketOptError(
            "there is no pip to install it with", where=sys.prefix, fix=f"run {sys.executable} -m ensurepip"
        )
    start = time.perf_counter()
    _follow([sys.executable, "-m", "venv", "--without-pip", str(root)], say, "no environment can be made")
    pip = [sys.executable, "-m", "pip", "--python", str(_python(root)), "--disable-pip-version-check"]
    requirements = ["--no-input", "--requirement", str(toolchain.requirements)]
    _follow([*pip, "install", *requirements], say, f"the toolchain '{toolchain.name}' cannot be installed")
    _follow([*pip, "check"], say, f"the pins of '{toolchain.name}' contradict one another")
    listed = subprocess.run([*pip, "list", "--format=json"], capture_output=True, text=True, check=True)
    versions = {row["name"]: row["version"] for row in json.loads(listed.stdout)}
    record = {
        "digest": toolchain.digest(),
        "versions": versions,
        "seconds": round(time.perf_counter() - start, 1),
        "bytes": sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()),
    }
    write_atomically(root / RECORD, json.dumps(record, indent=1) + "\n")
    return Environment(root, _python(root), versions)


def _follow(command: Sequence[str], say: Callable[[str], None], refusal: str) -> None:
    """Run `command`, passing its lines on; PocketOptError with the last of them if it fails."""
    last: deque[str] = deque(maxlen=TAIL_LINES)
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as child,
        _ended_with_us(child),
    ):
        assert child.stdout is not None
        for line in child.stdout:
            last.append(line.rstrip())
            say(line.rstrip())
    if child.returncode:
        raise worker.WorkerError(
            refusal,
            tail="\n".join(last),
            fix="look at the lines below; pip follows your own settings (PIP_INDEX_URL, proxy, certificates)",
        )


@contextmanager
def _ended_with_us(child: subprocess.Popen[str]) -> Iterator[None]:
    """End `child` and all that it started when this process is told to stop, or fails, while it runs."""
    try:
        with _stopped_by_an_exit():
            yield
    except BaseException:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        raise


@contextmanager
def _stopped_by_an_exit() -> Iterator[None]:
    """Inside, SIGTERM ends the main thread as an exit does, so that what is half made is removed on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _room() -> Path:
    return home() / "toolchains"


def _python(root: Path) -> Path:
    return root / "bin" / "python"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    room = _room()
    try:
        room.mkdir(parents=True, exist_ok=True)
        held = FileLock(room / f"{name}.lock")
        held.acquire()
    except OSError as error:
        raise storage_error(error, room) from error
    try:
        yield
    finally:
        held.release()
