"""The identity scheme: tagged, full-length SHA-256 over canonical JSON, and digests of files.

A tag stands in front of everything that is hashed, so that two kinds of thing can never share a key (the scheme of
redun's `hashing.py`). Literal key values are pinned in the tests: nobody changes them by accident.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def digest(tag: str, value: Any) -> str:
    """64 hexadecimal digits for `value` (JSON types, tuples as lists, mappings in any order) under `tag`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(f"pocket_opt:{tag}\0{text}".encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def tree_digest(root: Path, files: Iterable[Path], known: Mapping[str, str] | None = None) -> str:
    """Digest of named files below `root`: relative names and contents, independent of where `root` lies.

    Args:
        known: digests by relative name that need not be computed again.
    """
    names = sorted(path.relative_to(root).as_posix() for path in files)
    return digest("tree", {name: (known or {}).get(name) or file_digest(root / name) for name in names})
