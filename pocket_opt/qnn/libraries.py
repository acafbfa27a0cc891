"""Qualcomm's libraries as ExecuTorch's delegate looks for them: those of a toolchain, or of the user's own SDK.

The delegate loads them by name when it starts, so the paths have to be in the environment of the process before that.
Where QNN_SDK_ROOT is not set, ExecuTorch downloads an SDK of 1 GB and unpacks it into the user's cache; it is always
set here. Nothing is copied: the folder that stands for an SDK holds links.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.qnn.sdk import BACKEND, HOST, ROOT
from pocket_opt.scratch import scratch
from pocket_opt.toolchains.environments import Environment

PATHS = "LD_LIBRARY_PATH"


@contextmanager
def libraries(environment: Environment) -> Iterator[dict[str, str]]:
    """Environment variables for a process of `environment` that compiles for the NPU or simulates it.

    Raises:
        UserError: QNN_SDK_ROOT names a folder without the libraries.
        PocketOptError: the toolchain has lost its own.
    """
    own = os.environ.get(ROOT)
    if own:
        folder = Path(own).expanduser().absolute()
        if not (folder / "lib" / HOST / BACKEND).is_file():
            raise UserError(
                f"QNN_SDK_ROOT names no Qualcomm SDK for this machine: it has no lib/{HOST}/{BACKEND}",
                where=f"{ROOT}={own}",
                allowed="the folder of an SDK (QAIRT) for Linux x86-64",
                fix=f"correct it, or unset {ROOT}: the toolchain has libraries of its own",
            )
        yield _variables(folder)
        return
    here = list(environment.root.glob("lib/python*/site-packages/onnxruntime_qnn/*.so"))
    if BACKEND not in [file.name for file in here]:
        raise PocketOptError(
            f"the toolchain is damaged: Qualcomm's {BACKEND} is no longer in it",
            where=str(environment.root),
            fix="run `pocket-opt toolchain remove et_qnn`, then install",
        )
    with scratch("qnn") as folder:
        room = folder / "lib" / HOST
        room.mkdir(parents=True)
        for file in here:
            (room / file.name).symlink_to(file)
        beside = environment.root.glob("lib/python*/site-packages/onnxruntime_qnn.libs")
        yield _variables(folder, *beside)


def _variables(root: Path, *more: Path) -> dict[str, str]:
    before = os.environ.get(PATHS)
    paths = [str(root / "lib" / HOST), *map(str, more), *([before] if before else [])]
    return {ROOT: str(root), PATHS: os.pathsep.join(paths)}
