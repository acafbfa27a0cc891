"""Passes by name. A file `passes/<name>.py` that defines `PASS` is a pass; so are the measurements below.

Other distributions add passes through the entry-point group `pocket_opt.passes` (entry name -> module).
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pocket_opt.errors import unknown_name
from pocket_opt.passes.base import Pass

ENTRY_POINT_GROUP = "pocket_opt.passes"
MEASUREMENTS = (
    *("quality", "degradation", "parity", "agreement", "latency", "memory", "profile", "race"),
    *("graph_parity", "graph_latency", "on_device", "on_ai_hub"),
)
"""Passes of kind "measure"; their modules live in `pocket_opt.evaluation`."""


@cache
def pass_modules() -> dict[str, str]:
    """Every registered pass name and the module that defines it, without importing any."""
    own = {
        path.stem: f"{__name__}.{path.stem}"
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if path.stem not in ("__init__", "base")
    }
    measures = {name: f"pocket_opt.evaluation.{name}" for name in MEASUREMENTS}
    foreign = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return {**foreign, **own, **measures}


def load_pass(name: str, *, where: str = "pass") -> Pass[Any]:
    """The pass registered as `name`; a UserError with the nearest name if there is none."""
    step: Pass[Any] = _module(name, where).PASS
    return step


def summary(name: str) -> str:
    """The first line of a pass's module docstring."""
    return (_module(name, "pass").__doc__ or "").strip().splitlines()[0]


def _module(name: str, where: str) -> ModuleType:
    modules = pass_modules()
    if name not in modules:
        raise unknown_name("pass", name, modules, where=where)
    return importlib.import_module(modules[name])
