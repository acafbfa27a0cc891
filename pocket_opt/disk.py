"""What is asked of a disk: that what was written stays; and its refusals in words, with what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from pocket_opt.errors import PocketOptError

REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write",
}
FULL_BYTES = 100_000
"""A disk with less than this free is taken for full when a write failed without saying why."""


def sync(path: Path) -> None:
    """Have a file's content, or a directory's names, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(error: OSError, place: Path) -> PocketOptError:
    """A disk's refusal (full, quota, read-only, permissions) in words, with what to do."""
    what = REFUSALS.get(error.errno or 0, f"the disk refused ({error.strerror or error})")
    return PocketOptError(
        what,
        where=str(error.filename or place),
        fix="free space (`pocket-opt gc`), or set POCKET_OPT_HOME and output_dir to another disk",
    )


def refusal_of(error: Exception, place: Path) -> PocketOptError | None:
    """The disk's refusal behind an exception of a library that was writing below `place`, or None.

    NumPy, safetensors and protobuf report a full disk without its number, so the disk itself is asked.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        is_a_file = error.filename is not None or error.errno != errno.EACCES  # a socket may be refused, too
        return storage_error(error, place) if is_a_file else None
    existing = next(path for path in (place, *place.parents) if path.exists())
    if shutil.disk_usage(existing).free < FULL_BYTES:
        return storage_error(OSError(errno.ENOSPC, str(error)), place)
    return None
