"""What is asked of a disk: that what was written stays; and its refusals in words, with what to do."""

from __future__ import annotations

import errno
import os
import shutil
import traceback
from pathlib import Path

from pocket_opt.errors import PocketOptError

_MOVE = "set POCKET_OPT_HOME and output_dir to another disk"
_FREE = f"free space (`pocket-opt gc`), or {_MOVE}"
REFUSALS = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EROFS: ("the file system is read-only", _MOVE),
    errno.EACCES: ("no permission to write", f"change the permissions, or {_MOVE}"),
}
UNREADABLE = ("no permission to read", "change the permissions, or name another file")
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
    where = Path(str(error.filename or place))
    odd = f"the disk refused ({error.strerror or error})", f"look at that place, or {_MOVE}"
    what, fix = REFUSALS.get(error.errno or 0, odd)
    if error.errno == errno.EACCES and not os.access(_nearest(where), os.R_OK):
        what, fix = UNREADABLE
    return PocketOptError(what, where=str(where), fix=fix)


def refusal_of(error: Exception, place: Path) -> PocketOptError | None:
    """The disk's refusal behind an exception of a library that was writing below `place`, or None.

    NumPy, safetensors and protobuf report a full disk without its number, so the disk itself is asked.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        is_a_file = error.filename is not None or error.errno != errno.EACCES  # a socket may be refused, too
        return storage_error(error, place) if is_a_file else None
    if shutil.disk_usage(_nearest(place)).free < FULL_BYTES:
        return storage_error(OSError(errno.ENOSPC, str(error)), place)
    return None


def unexpected(error: Exception, place: Path) -> PocketOptError:
    """An exception that nobody foresaw in words: the disk's refusal, or a mistake of this program.

    Its traceback is printed if HYDRA_FULL_ERROR=1.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    internal = PocketOptError(f"internal error ({what}); HYDRA_FULL_ERROR=1 shows where")
    return refusal_of(error, place) or internal


def _nearest(path: Path) -> Path:
    """`path`, or the directory above it that is there."""
    return next(above for above in (path, *path.parents) if os.path.lexists(above))
