"""Targets by name: a file `targets/<name>.py` that defines `TARGET`, with its choice in `conf/target/<name>.yaml`."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pocket_opt.config.schema import Intents
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.targets.base import Target


def target_names() -> list[str]:
    """Every registered target."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "base")
    )


def load_target(name: str) -> Target:
    """The target registered as `name`; UserError with the nearest name if there is none."""
    if name not in target_names():
        raise unknown_name("target", name, target_names(), where="target.name")
    target: Target = importlib.import_module(f"{__name__}.{name}").TARGET
    return target


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
