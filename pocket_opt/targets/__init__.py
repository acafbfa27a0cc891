"""Targets by name, each with its choice in `conf/target/<name>.yaml`.

A target is a file `targets/<name>.py` that defines `TARGET`, or `OF_CHIP`, which makes one of a Qualcomm
chip. Those whose choice describes a chip (`soc`) need no file: one class serves them all.
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
    return sorted(_files() | _chips().keys())


def load_target(name: str, soc: Soc | str | None = None) -> Target:
    """The target registered as `name`, or that it is another name of; UserError with the nearest name otherwise.

    Args:
        soc: what the configuration says of the chip, where it says more than the target's file: a description, or the
            name of a target that has one.
    """
    known = groups.choices("target")
    if name in known:
        name = groups.canonical("target", name)
    if name not in target_names():
        raise unknown_name("target", name, {*known, *target_names()}, where="target.name")
    chip = described_chip(soc or _told(name))
    if chip:
        _check_pair(chip)
    if name not in _files():
        assert chip is not None
        return Snapdragon(name, chip)
    module = importlib.import_module(f"{__name__}.{name}")
    if not hasattr(module, "OF_CHIP"):
        if chip:
            raise _no_chip(name)
        target: Target = module.TARGET
        return target
    if not chip:
        raise UserError(
            f"the target {name} needs a chip", where="target.soc", fix="name one, e.g. soc: sd8elite"
        )
    of_chip: Target = module.OF_CHIP(chip)
    return of_chip


def _files() -> set[str]:
    return {path.stem for path in Path(__file__).parent.glob("*.py")} - set(NO_TARGETS)


def _no_chip(name: str) -> UserError:
    return UserError(
        f"the target {name} is no Qualcomm chip",
        where="target.soc",
        allowed="with " + ", ".join(sorted(_chips())),
        fix="leave target.soc out",
    )


def described_chip(told: Soc | str | None) -> Soc | None:
    """A chip as described, or that of the target that is named; UserError if there is none of that name."""
    if not isinstance(told, str):
        return told
    known = groups.choices("target")
    name = groups.canonical("target", told) if told in known else told
    if name not in _chips():
        raise unknown_name("chip", told, _chips(), where="target.soc")
    return _chips()[name]


def _chips() -> dict[str, Soc]:
    """The targets that describe a chip."""
    told = {name: _told(name) for name in groups.choices("target")}
    return {name: soc for name, soc in told.items() if isinstance(soc, Soc)}


def _told(name: str) -> Soc | str | None:
    """What the file of a choice says of its chip."""
    path = groups.choices("target").get(name)
    table = groups.read_yaml(path).get("soc") if path else None
    if table is None or isinstance(table, str):
        return table
    return parse(Soc, table, where=f"{path}: soc")


def _check_pair(soc: Soc) -> None:
    """Raise UserError where a known chip has another NPU than stated, which the compiler would ignore."""
    for known in _chips().values():
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
