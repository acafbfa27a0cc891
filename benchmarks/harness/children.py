"""An engine in a process of its own, asked line by line (see `peers/protocol.py`)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.machine import prefix

PEERS = Path(__file__).resolve().parents[1] / "peers"
TAIL = 1500
ALONE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "PIP_NO_INDEX": "1"}


class EngineFailed(RuntimeError):
    """An engine could not be opened, or broke while it ran; the text ends with the last lines of its output."""


class Child:
    """A running adapter.

    Attributes:
        ready: what it said when it was open: `load_s`, `size_mb`, `versions`.
    """

    def __init__(
        self, adapter: str, job: Mapping[str, Any], python: Path, log: Path, *, priority: int = 0
    ) -> None:
        file = log.with_suffix(".json")
        file.write_text(json.dumps(job), encoding="utf-8")
        self._log = log
        threads = {"OMP_NUM_THREADS": str(job["threads"])}
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [*prefix(priority), str(python), str(PEERS / adapter), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **ALONE, **threads},
            )
        self.ready = self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            EngineFailed: the engine refused or died.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": "it ended without a word"}
        if "error" in reply:
            self.close()
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-TAIL:]
            raise EngineFailed(f"{reply['error']}\n{tail}")
        return reply
