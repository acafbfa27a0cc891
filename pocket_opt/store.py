"""Artifacts by key: atomic publication, verification, locks and a bound on size.

Correctness rests on one rename: an entry is complete or absent, also after `kill -9`. Locks only save double work, so a
store on a network share is safe. Failures are never stored.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from pocket_opt.artifact import DESCRIPTION, Artifact
from pocket_opt.disk import storage_error, sync
from pocket_opt.errors import PocketOptError
from pocket_opt.home import read_json, write_atomically
from pocket_opt.identity import file_digest
from pocket_opt.scratch import own_name, remove_tree, sweep_dead

ENTRY = "entry.json"


@dataclass(frozen=True)
class Entry:
    """A published artifact and the record of how it was made (seconds, did, node, key material)."""

    key: str
    artifact: Artifact
    record: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @property
    def size(self) -> int:
        """Bytes of all files of the entry."""
        return sum(int(table["size"]) for table in self.files.values())


class Store:
    """Content below `root`: objects/ (entries), parts/ (unfinished), quarantine/, locks/, verified/."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._parts = root / "parts"
        self._verified = root / "verified"
        self.quarantine = root / "quarantine"

    def path(self, key: str) -> Path:
        """Where the entry of `key` is, or would be."""
        return self._objects / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether an entry is there, without verifying it."""
        return (self.path(key) / ENTRY).is_file()

    def get(self, key: str, *, thorough: bool = False) -> Entry | None:
        """The verified entry of `key`, or None. A damaged entry is moved to quarantine, so that it is rebuilt.

        The first read hashes every file; later reads compare size, time and inode, unless `thorough`.
        """
        root = self.path(key)
        if not root.is_dir():
            return None
        entry = self._read(key)
        if entry is None or not self._is_intact(entry, thorough=thorough):
            self._isolate(root)
            return None
        with suppress(OSError):  # a store that can only be read serves as well
            os.utime(root)
        return entry

    @contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A new empty directory to build `key` in; removed afterwards unless it was published."""
        part = self._parts / own_name(key)
        try:
            sweep_dead(self._parts)
            part.mkdir(parents=True)
            yield part
        except OSError as error:
            raise storage_error(error, self.root) from error
        finally:
            remove_tree(part)

    def publish(self, key: str, part: Path, record: dict[str, Any]) -> Entry:
        """Make `part` the entry of `key`: hash, write the record, sync, protect, rename. First one wins."""
        try:
            return self._publish(key, part, record)
        except OSError as error:
            raise storage_error(error, self.root) from error

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A machine-wide lock; it saves double work, nothing else depends on it."""
        directory = self.root / "locks"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            held = FileLock(directory / f"{name}.lock")
            held.acquire()
        except OSError as error:
            raise storage_error(error, self.root) from error
        try:
            yield
        finally:
            held.release()

    def entries(self) -> list[tuple[str, int, float]]:
        """Key, bytes and time of last use (seconds since the epoch) of every entry, least recently used first."""
        rows = []
        for root in self._objects.glob("*/*"):
            entry = self._read(root.name)
            if entry is not None:
                with suppress(FileNotFoundError):
                    rows.append((root.name, entry.size, root.stat().st_mtime))
        return sorted(rows, key=lambda row: row[2])

    def collect(self, max_bytes: int) -> tuple[int, int]:
        """Remove the least recently used entries until `max_bytes` are left; returns entries and bytes freed."""
        rows = self.entries()
        total, freed, count = sum(size for _, size, _ in rows), 0, 0
        for key, size, _ in rows:
            if total - freed <= max_bytes:
                break
            with self.lock(key):
                self._remove(key)
            freed, count = freed + size, count + 1
        for root in self._objects.glob("*/*"):
            if self._read(root.name) is None:
                self._isolate(root)
        sweep_dead(self._parts)
        remove_tree(self.quarantine)
        return count, freed

    def _publish(self, key: str, part: Path, record: dict[str, Any]) -> Entry:
        if not (part / DESCRIPTION).is_file():
            raise PocketOptError("there is no artifact to publish", where=f"{part.name}/{DESCRIPTION}")
        names = sorted(path for path in part.rglob("*") if path.is_file())
        files = {
            path.relative_to(part).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
            for path in names
        }
        (part / ENTRY).write_text(json.dumps({"key": key, "record": record, "files": files}, indent=1))
        for path in (*names, part / ENTRY):
            path.chmod(0o444)
            sync(path)
        sync(part)
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        if not _moved(part, final):
            first = self.get(key)
            if first is not None:
                return first
            os.rename(part, final)
        sync(final.parent)
        entry = self._read(key)
        if entry is None:
            raise PocketOptError("an entry vanished from the store while it was published", where=str(final))
        self._remember(entry)
        return entry

    def _read(self, key: str) -> Entry | None:
        """The entry as it is written, not verified; None if it cannot be read or is that of another key."""
        root = self.path(key)
        try:
            table = json.loads((root / ENTRY).read_text())
            files = {str(name): dict(row) for name, row in table["files"].items()}
            entry = Entry(key, Artifact.load(root), dict(table["record"]), files)
            return entry if table["key"] == key and entry.size >= 0 else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _is_intact(self, entry: Entry, *, thorough: bool) -> bool:
        root = entry.artifact.root
        try:
            if not thorough and read_json(self._verified / f"{entry.key}.json") == _stamps(entry):
                return True
            for name, table in entry.files.items():
                path = root / name
                if path.stat().st_size != table["size"] or file_digest(path) != table["sha256"]:
                    return False
        except OSError:
            return False
        self._remember(entry)
        return True

    def _remember(self, entry: Entry) -> None:
        """Note that an entry was verified; that only saves hashing, so a disk that refuses is no matter."""
        with suppress(OSError):
            write_atomically(self._verified / f"{entry.key}.json", json.dumps(_stamps(entry)))

    def _isolate(self, root: Path) -> None:
        self._move(root, self.quarantine / f"{root.name}.{int(time.time())}.{uuid4().hex[:8]}")

    def _remove(self, key: str) -> None:
        """Rename first, so that nobody reads a half-removed entry."""
        doomed = self._parts / own_name("removed")
        self._move(self.path(key), doomed)
        remove_tree(doomed)
        (self._verified / f"{key}.json").unlink(missing_ok=True)

    def _move(self, root: Path, place: Path) -> None:
        """Take an entry out of the store in one step; one that another process took first is no matter."""
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(root, place)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self.root) from error


def _stamps(entry: Entry) -> dict[str, list[int]]:
    stats = {name: (entry.artifact.root / name).stat() for name in entry.files}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats.items()}


def _moved(part: Path, final: Path) -> bool:
    """Rename; False if an entry is there already."""
    try:
        os.rename(part, final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True
