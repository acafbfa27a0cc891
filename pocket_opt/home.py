"""The one place outside the outputs that is written: store, locks, downloads and what is remembered between runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from pocket_opt.errors import UserError

VARIABLE = "POCKET_OPT_HOME"


def home() -> Path:
    """`$POCKET_OPT_HOME`, or `pocket_opt` in the user's cache directory."""
    declared = os.environ.get(VARIABLE)
    if declared:
        try:
            return Path(declared).expanduser().resolve()
        except RuntimeError as error:
            raise UserError(
                f"there is no user for {declared}", where=f"${VARIABLE}", fix="correct it"
            ) from error
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "pocket_opt"


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step: a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The JSON content of `path`, or None if it is absent or damaged (such files only save work)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
