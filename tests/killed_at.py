"""Runs a program and kills itself at a step: `killed_at.py MODULE:NAME WHEN NUMBER PROGRAM ARGUMENTS...`.

WHEN is "before" or "after"; NUMBER counts the calls of `MODULE.NAME` (a function or a method) from 1. PROGRAM is a
module (run as with `python -m`) or a file.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
from typing import Any


def arm(target: str, when: str, number: int) -> None:
    """Replace `target` by a function that ends this process at its call `number`."""
    module, _, name = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, last)
    calls = 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*arguments, **named)
        if calls == number and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, last, deadly)


if __name__ == "__main__":
    arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.argv = sys.argv[4:]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
