"""Qualcomm's SDK (QAIRT, once QNN) where the environment variable QNN_SDK_ROOT says it is, and its programs.

Nothing of it is ever downloaded or copied. Its programs run in a folder of their own, on file names relative to it,
with its libraries and Python modules before all others; what they print is kept for the error. Their command lines
name the SDK as $QNN_SDK_ROOT, so that they hold on another machine.

Source of the layout and the options: the tools' reference of QAIRT 2.39 (docs.qualcomm.com, 80-63442).
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocket_opt.errors import PocketOptError, UserError

ROOT = "QNN_SDK_ROOT"
HOST = "x86_64-linux-clang"
"""The SDK's name for this kind of machine."""

DESCRIPTION = "sdk.yaml"
BACKEND, EXTENSIONS, MODEL_OF_DLC = "libQnnHtp.so", "libQnnHtpNetRunExtensions.so", "libQnnModelDlc.so"
GET_IT = (
    "download the Qualcomm AI Runtime SDK (QAIRT, free of charge with a Qualcomm account) from "
    "https://softwarecenter.qualcomm.com, unpack it, and export QNN_SDK_ROOT=FOLDER/qairt/VERSION"
)
_VERSION = re.compile(r"^(?:version|build_id):\s*[\"']?([\w.]+)", re.MULTILINE)
_TAIL_LINES = 12


@dataclass(frozen=True)
class Sdk:
    """An SDK that has what is needed.

    Attributes:
        version: with the number of the build, e.g. "2.39.0.250926".
    """

    root: Path
    version: str

    def library(self, name: str) -> str:
        """A library of the SDK for this machine, as its programs are told of it."""
        return str(self.root / "lib" / HOST / name)

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        makes: Sequence[str],
        python: str,
        timeout_s: float,
    ) -> str:
        """Run a program in `folder`; gives its command line.

        Args:
            makes: the files in `folder` that it must write.
            python: the interpreter for programs that are scripts of Python; "" is the one they name themselves.

        Raises:
            PocketOptError: it failed, took too long, or wrote nothing.
        """
        file = self.root / "bin" / HOST / program
        told = shlex.join([program, *arguments]).replace(str(self.root), f"${ROOT}")
        command = [*([python] if python and _is_script(file) else []), str(file), *arguments]
        log = folder / f"{program}.log"
        try:
            with log.open(
                "wb"
            ) as output:  # a pipe would be held open by what a program starts and leaves behind
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_s,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            fix = "raise nodes.compile.params.tool_timeout_s, and timeout_s"
            raise _failed(program, f"ran longer than {timeout_s:g} s", told, log, fix) from None
        except OSError as error:
            fix = "name the interpreter in nodes.compile.params.python"
            raise _failed(program, f"cannot be started ({error.strerror})", told, log, fix) from error
        if done.returncode:
            fix = (
                "run the command line by hand; the SDK's check-python-dependency tells what its Python lacks"
            )
            raise _failed(program, f"failed with exit status {done.returncode}", told, log, fix)
        missing = [name for name in makes if not _has_bytes(folder / name)]
        if missing:
            raise _failed(
                program, f"said nothing of an error, and wrote no {missing[0]}", told, log, "use another SDK"
            )
        return told

    def _environment(self) -> dict[str, str]:
        first = {"PATH": f"bin/{HOST}", "LD_LIBRARY_PATH": f"lib/{HOST}"}
        paths = {
            name: os.pathsep.join(filter(None, [str(self.root / folder), os.environ.get(name, "")]))
            for name, folder in first.items()
        }
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
        return {**kept, **paths, "PYTHONPATH": str(self.root / "lib" / "python"), ROOT: str(self.root)}


def find_sdk(programs: Sequence[str] = ()) -> Sdk:
    """The SDK, with `programs` and the libraries of the NPU.

    Raises:
        UserError: there is none, it is for other machines, or it is not whole.
    """
    told = os.environ.get(ROOT, "")
    if not told:
        raise UserError(
            "Qualcomm's own compiler is asked for, and QNN_SDK_ROOT names no SDK",
            where=ROOT,
            allowed="a folder with Qualcomm's SDK for Linux x86-64",
            fix=f"{GET_IT}; or leave pass=compile_qnn, which needs none",
        )
    root = Path(told).expanduser().absolute()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UserError(
            f"Qualcomm's compiler runs on Linux x86-64, and this machine is {platform.system()} {platform.machine()}",
            where=ROOT,
            fix="build on such a machine",
        )
    if not root.is_dir() or not (root / DESCRIPTION).is_file():
        found = f"it has no {DESCRIPTION}" if root.is_dir() else "there is no such folder"
        raise UserError(
            f"QNN_SDK_ROOT names no Qualcomm SDK: {found}",
            where=f"{ROOT}={told}",
            allowed=f"the folder that holds {DESCRIPTION}, bin/{HOST} and lib/{HOST}",
            fix=GET_IT,
        )
    _require_whole(root, programs)
    return Sdk(
        root, ".".join(_VERSION.findall((root / DESCRIPTION).read_text(errors="replace"))) or "unknown"
    )


def _require_whole(root: Path, programs: Sequence[str]) -> None:
    if not (root / "bin" / HOST).is_dir():
        hosts = sorted(path.name for path in (root / "bin").glob("*-*") if path.is_dir())
        raise UserError(
            f"this Qualcomm SDK is for other machines: {', '.join(hosts) or 'it has no programs'}",
            where=f"{ROOT}={root}",
            allowed=HOST,
            fix="download the one for Linux x86-64",
        )
    needed = [
        *(f"bin/{HOST}/{name}" for name in programs),
        *(f"lib/{HOST}/{name}" for name in (BACKEND, EXTENSIONS)),
    ]
    missing = [name for name in needed if not (root / name).is_file()]
    unusable = [name for name in needed if name not in missing and not os.access(root / name, _needs(name))]
    if missing or unusable:
        what = f"it lacks {missing[0]}" if missing else f"{unusable[0]} may not be executed"
        raise UserError(
            f"this Qualcomm SDK is not whole: {what}",
            where=f"{ROOT}={root}",
            allowed=", ".join(needed),
            fix="unpack the SDK again, or use another version of it",
        )


def _needs(name: str) -> int:
    return os.X_OK if name.startswith("bin/") else os.R_OK


def _is_script(file: Path) -> bool:
    with file.open("rb") as start:
        return start.read(2) == b"#!"


def _has_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _failed(program: str, what: str, told: str, log: Path, fix: str) -> PocketOptError:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL_LINES:]
    said = "".join(f"\n  | {line}" for line in lines)
    return PocketOptError(f"Qualcomm's {program} {what}{said}", where=told, fix=fix)
