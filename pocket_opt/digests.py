"""Digests of files that are asked for again and again: hashed once, then recognised by size, time and inode."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pocket_opt.home import home, read_json, write_atomically
from pocket_opt.identity import digest, file_digest


class DigestMemory:
    """`with DigestMemory() as memory: memory.of(path)`; what was new is kept in the home at the end."""

    def __init__(self) -> None:
        self._place = home() / "digests.json"
        found = read_json(self._place)
        self._known: dict[str, str] = found if isinstance(found, dict) else {}
        self._added: dict[str, str] = {}

    def of(self, path: Path) -> str:
        """SHA-256 of a file's bytes, as 64 hexadecimal digits; OSError if it cannot be read."""
        stat = path.stat()
        stamp = digest("stamp", [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino])
        if stamp not in self._known:
            self._known[stamp] = self._added[stamp] = file_digest(path)
        return self._known[stamp]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._added:
            with suppress(OSError):  # it only saves hashing next time
                write_atomically(self._place, json.dumps(self._known))
