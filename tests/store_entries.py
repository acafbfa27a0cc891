"""Small entries of a store, for its tests and those of the engine."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pocket_opt.artifact import Artifact, Component
from pocket_opt.identity import digest
from pocket_opt.store import Entry, Store

KEY = digest("test", "entry")


def write_artifact(root: Path, content: bytes = b"weights") -> Artifact:
    """An artifact of one component with two files."""
    (root / "sub").mkdir()
    (root / "model.bin").write_bytes(content)
    (root / "sub" / "notes.txt").write_text("notes")
    return Artifact(
        root, {"model": Component("bin", ("model.bin", "sub/notes.txt"))}, {"family": "test"}
    ).save()


def publish(store: Store, key: str = KEY, content: bytes = b"weights") -> Entry:
    """Build and publish such an artifact."""
    with store.building(key) as part:
        write_artifact(part, content)
        return store.publish(key, part, {"node": "test", "seconds": 0.1})


def overwrite(path: Path, content: bytes) -> None:
    """Change a read-only file in place, as a failing disk or a careless hand does."""
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def fill_disk(disk: Path) -> None:
    """Write until not a byte more goes on the file system of `disk`."""
    with (disk / "ballast").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 1024):
            pass
