"""Directories of a running process, named after it: what a killed one left behind is recognised and removed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pocket_opt.disk import storage_error
from pocket_opt.home import home

HOST = socket.gethostname().replace(".", "-")


def own_name(label: str) -> str:
    """A name for a directory of this process; nobody else gets the same."""
    return f"{label}.{HOST}.{os.getpid()}.{uuid4().hex[:8]}"


def sweep_dead(folder: Path) -> None:
    """Remove what processes of this host left below `folder` when they were killed."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        pieces = path.name.rsplit(".", 3)
        ours = len(pieces) == 4 and pieces[1] == HOST and pieces[2].isdigit()
        if ours and not is_alive(int(pieces[2])):
            remove_tree(path)


@contextmanager
def scratch(label: str) -> Iterator[Path]:
    """An empty directory in the home, gone afterwards.

    Raises:
        PocketOptError: the disk refused.
    """
    folder = home() / "scratch"
    path = folder / own_name(label)
    try:
        sweep_dead(folder)
        path.mkdir(parents=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        yield path
    finally:
        remove_tree(path)


def is_alive(pid: int) -> bool:
    """Whether a process of this host has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_tree(root: Path) -> None:
    """Remove a directory with read-only files in it; absent is fine."""
    shutil.rmtree(root, ignore_errors=True)
