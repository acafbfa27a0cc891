"""Files are hashed once, and again when they change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pocket_opt import digests
from pocket_opt.digests import DigestMemory


def remembered(path: Path) -> str:
    with DigestMemory() as memory:
        return memory.of(path)


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    first = remembered(path)
    assert first == hashlib.sha256(b"content").hexdigest()
    monkeypatch.setattr(digests, "file_digest", lambda path: "hashed again")
    assert remembered(path) == first
    os.utime(path, ns=(1, 1))
    assert remembered(path) == "hashed again"


def test_what_was_hashed_before_an_error_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with pytest.raises(FileNotFoundError), DigestMemory() as memory:
        first = memory.of(path)
        memory.of(tmp_path / "absent")
    monkeypatch.setattr(digests, "file_digest", lambda path: "hashed again")
    assert remembered(path) == first
