"""From overrides to a checked `Config`, through Hydra's compose; and the expansion of sweeps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pocket_opt.config import groups
from pocket_opt.config.overrides import Overrides, check
from pocket_opt.config.parsing import parse
from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError


def load(lines: Sequence[str]) -> Config:
    """The configuration that `lines` (overrides as typed) describe; UserError for anything wrong in them."""
    return from_table(compose(check(lines, sweep=False)))


def from_table(table: Mapping[str, Any]) -> Config:
    """The configuration in a composed table (without Hydra's own part)."""
    own = {key: value for key, value in table.items() if key not in ("hydra", "experiment")}
    if own.get("recipe") is None:
        raise UserError("no recipe is chosen", where="recipe", allowed=", ".join(groups.choices("recipe")))
    return parse(Config, own, where="configuration")


def compose(overrides: Overrides, *, with_hydra: bool = False) -> dict[str, Any]:
    """Compose the YAML files and `overrides` into one resolved table."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    groups.register(overrides.recipe_file)
    try:
        with initialize_config_dir(str(groups.data_folder("conf")), version_base="1.3"):
            composed = hydra_compose("config", list(overrides.lines), return_hydra_config=with_hydra)
        if with_hydra:
            hydra = composed.hydra
            return {"mode": str(hydra.mode), "params": dict(hydra.sweeper.params or {})}
        table: Any = OmegaConf.to_container(composed, resolve=True)
        return dict(table)
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise UserError(_first_lines(error), where="composing the configuration") from error
    finally:
        GlobalHydra.instance().clear()


def expand(lines: Sequence[str], *, sweep: bool) -> list[list[str]]:
    """The overrides of every variant that `lines` describe: one without a sweep, the product of values with it."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    deciding = [line for line in lines if line.lstrip("+").startswith(("experiment=", "hydra."))]
    about: dict[str, Any] = {"mode": "", "params": {}}
    if deciding:
        about = compose(check(deciding, sweep=True), with_hydra=True)
    params = [f"{key}={value}" for key, value in about["params"].items()]
    if not sweep and "MULTIRUN" not in about["mode"]:
        return [list(lines)]
    own = [*params, *lines]
    check(own, sweep=True)
    parsed = OverridesParser.create().parse_overrides(own)
    return [list(batch) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]]


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).strip().splitlines()[:2])
