"""A toolchain whose one distribution is a wheel made here, so that installing it needs no network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pocket_opt.toolchains import Toolchain, read_toolchain

TASKS = '''\
"""Tasks of the test's toolchain."""

import importlib.util
import os
import sys


class Refused(Exception):
    exit_code, what, where, allowed, fix = 2, "no such architecture", "model", "another", "choose another"


def look_around(payload, progress):
    import tiny_tool

    progress(1, 1, "looks")
    names = ("pocket_opt", "torch", "pip")
    return {
        "number": tiny_tool.NUMBER + payload["add"],
        "prefix": sys.prefix,
        "importable": [name for name in names if importlib.util.find_spec(name)],
        "offline": os.environ["HF_HUB_OFFLINE"],
        "no_index": os.environ["PIP_NO_INDEX"],
    }


def refuse(payload, progress):
    raise Refused
'''


def make_toolchain(
    folder: Path, monkeypatch: pytest.MonkeyPatch, requirement: str = "tiny-tool==1.0"
) -> Toolchain:
    """A toolchain called "tiny" below `folder`; pip finds its wheel there and asks no index."""
    wheels, own = folder / "wheels", folder / "tiny"
    wheels.mkdir(parents=True)
    own.mkdir()
    info = "tiny_tool-1.0.dist-info"
    with zipfile.ZipFile(wheels / "tiny_tool-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_tool.py", "NUMBER = 40\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-tool\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/RECORD", f"tiny_tool.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    (own / "requirements.txt").write_text(f"# A tool for tests\n{requirement}\n")
    (own / "tiny_tasks.py").write_text(TASKS)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return read_toolchain(own)
