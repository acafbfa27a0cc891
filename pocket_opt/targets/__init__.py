"""Targets by name, each with its choice in `conf/target/<name>.yaml`.

A target is a file `targets/<name>.py` that defines `TARGET`. Those whose choice describes a Qualcomm chip (`soc`) need
no file: one class serves them all.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pocket_opt.config import groups
from pocket_opt.config.parsing import parse
from pocket_opt.config.schema import Intents, Soc
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.targets.base import Target
from pocket_opt.targets.snapdragon import Snapdragon

NO_TARGETS = ("__init__", "base", "snapdragon")
"""Files here that define no `TARGET`."""


def target_names() -> list[str]:
    """Every registered target, without other names of the same."""
    files = {path.stem for path in Path(__file__).parent.glob("*.py")} - set(NO_TARGETS)
    return sorted(files | {name for name in groups.choices("target") if _soc(name)})


def load_target(name: str, soc: Soc | None = None) -> Target:
    """The target registered as `name`, or that it is another name of; UserError with the nearest name otherwise.

    Args:
        soc: what the configuration says of the chip, where it says more than the target's file.
    """
    known = groups.choices("target")
    if name in known:
        name = groups.canonical("target", name)
    if name not in target_names():
        raise unknown_name("target", name, {*known, *target_names()}, where="target.name")
    chip = _soc(name)
    if chip:
        _check_pair(soc or chip)
        return Snapdragon(name, soc or chip)
    if soc:
        raise UserError(
            f"the target {name} is no Qualcomm chip",
            where="target.soc",
            allowed="with " + ", ".join(one for one in target_names() if _soc(one)),
            fix="leave target.soc out",
        )
    target: Target = importlib.import_module(f"{__name__}.{name}").TARGET
    return target


def _soc(name: str) -> Soc | None:
    """The chip that the file of a choice describes."""
    path = groups.choices("target").get(name)
    table = groups.read_yaml(path).get("soc") if path else None
    return parse(Soc, table, where=f"{path}: soc") if table is not None else None


def _check_pair(soc: Soc) -> None:
    """Raise UserError where a known chip has another NPU than stated, which the compiler would ignore."""
    for known in filter(None, map(_soc, groups.choices("target"))):
        if known.soc_model == soc.soc_model and known.htp_arch != soc.htp_arch:
            raise UserError(
                f"soc_model {soc.soc_model} is the {known.chip}, whose NPU is v{known.htp_arch}, not v{soc.htp_arch}",
                where="target.soc",
                allowed="the numbers of one chip",
                fix="change both, or choose the target of the chip that you mean",
            )


def require_installed(target: Target, intents: Intents) -> None:
    """Raise UserError, before anything is built, for a package that the target needs and this machine lacks."""
    for package in target.packages if intents.format == "target" else ():
        try:
            version(package.distribution)
        except PackageNotFoundError:
            raise UserError(
                f"the target '{target.name}' needs {package.distribution}, which is not installed",
                where="target",
                fix=package.install,
            ) from None
