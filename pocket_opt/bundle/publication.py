"""The files of a bundle, and how a directory of them appears: complete or not at all, also after `kill -9`.

A bundle is staged in a hidden directory beside its destination and exchanged with it in one system call where there is
one (Linux), else by two renames. Leftovers of killed processes are removed by the next writer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from pocket_opt.artifact import link_file
from pocket_opt.disk import sync
from pocket_opt.errors import PocketOptError
from pocket_opt.scratch import remove_tree

MANIFEST = "manifest.json"
CARD = "README.md"
MEASUREMENTS = "measurements"
TRACKED = "mlartifacts"
"""The folder of what was copied into MLflow; nothing in it is a bundle."""
FALLBACK = "fallback"
"""The folder of a bundle that encloses another one: the same model for the CPU, which lies elsewhere, too."""

_STAGED, _REPLACED, _LOCK = ".new-", ".old-", ".bundles.lock"
_FICLONE = 0x40049409  # ioctl_ficlone(2): share the blocks of a file (btrfs, xfs, bcachefs)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)


def bundle_directory(outputs: Path, recipe: str, target: str, level: str, row_key: str) -> Path:
    """Where the bundle of a variant lies: `outputs/<recipe>/<target>/<level>-<first 8 digits of the row>`."""
    return outputs / recipe / target / f"{level}-{row_key[:8]}"


def find_bundles(roots: Iterable[Path]) -> list[Path]:
    """Every bundle in or below `roots`, sorted; hidden directories, what tracking keeps and fallbacks are left out."""
    found: set[Path] = set()
    for root in roots:
        for manifest in [root / MANIFEST] if (root / MANIFEST).is_file() else root.rglob(MANIFEST):
            inner = manifest.relative_to(root).parts
            if not any(part.startswith(".") or part in (TRACKED, FALLBACK) for part in inner):
                found.add(manifest.parent)
    return sorted(found)


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """A new empty directory beside `destination`, alone among writers; gone afterwards unless it was published."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.parent / _LOCK):
        _recover(destination)
        stage = destination.with_name(f".{destination.name}{_STAGED}{uuid4().hex[:8]}")
        stage.mkdir()
        try:
            yield stage
        finally:
            remove_tree(stage)


def publish(stage: Path, destination: Path) -> None:
    """Make `stage` the directory `destination`; an older one is replaced."""
    _sync_tree(stage)
    if not destination.exists():
        stage.rename(destination)
    elif _exchange(stage, destination):
        remove_tree(stage)
    else:
        aside = destination.with_name(f".{destination.name}{_REPLACED}{uuid4().hex[:8]}")
        destination.rename(aside)
        stage.rename(destination)
        remove_tree(aside)
    sync(destination.parent)


def place_file(source: Path, destination: Path) -> None:
    """`source` as `destination`: a reflink where the file system can, else a hard link if read-only, else a copy."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not _reflink(source, destination):
        link_file(source, destination)


def resolve_inside(root: Path, relative: str) -> Path:
    """`root/relative`, a path that a manifest names; PocketOptError if it leads out of `root`."""
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise PocketOptError(
            f"the manifest names a file outside the bundle: {relative}",
            where=str(root / MANIFEST),
            fix="do not use this bundle; its manifest was changed",
        )
    return root / path


def _recover(destination: Path) -> None:
    """Put back or remove what a killed writer of this bundle left."""
    for aside in destination.parent.glob(f".{destination.name}{_REPLACED}*"):
        if destination.exists():
            remove_tree(aside)
        else:
            aside.rename(destination)
    for stage in destination.parent.glob(f".{destination.name}{_STAGED}*"):
        remove_tree(stage)


def _exchange(stage: Path, destination: Path) -> bool:
    """Swap two directories in one step; False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(stage), os.fsencode(destination)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(destination))


def _reflink(source: Path, destination: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    with source.open("rb") as reading, destination.open("wb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if not cloned:
        destination.unlink()
    return cloned


def _sync_tree(root: Path) -> None:
    for path in (*(path for path in root.rglob("*") if not path.is_symlink()), root):
        sync(path)
