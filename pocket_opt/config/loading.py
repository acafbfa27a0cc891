"""From overrides to a checked `Config`, through Hydra's compose; and the expansion of sweeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pocket_opt.config import groups
from pocket_opt.config.overrides import ORIGIN, Overrides, check, gives_several, key_of, origin
from pocket_opt.config.parsing import parse
from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError

PLACE = "configuration"
BASIC = "basic"
"""Hydra's launcher that runs one variant after the other in this process, as we do without it."""


def load(lines: Sequence[str]) -> Config:
    """The configuration that `lines` (overrides as typed) describe; UserError for anything wrong in them."""
    overrides = check(lines, sweep=False)
    return from_table(compose(overrides), lines, recipe_files=overrides.recipe_files.values())


def from_table(
    table: Mapping[str, Any], lines: Sequence[str] = (), *, recipe_files: Iterable[Path] = ()
) -> Config:
    """The configuration in a composed table (without Hydra's own part).

    Args:
        lines, recipe_files: the overrides and the user's recipe files that it came from, to tell the origin of errors.
    """
    own = {key: value for key, value in table.items() if key not in ("hydra", "experiment")}
    if own.get("recipe") is None:
        raise UserError("no recipe is chosen", where="recipe", allowed=", ".join(groups.choices("recipe")))
    try:
        return parse(Config, own, where=PLACE)
    except UserError as error:
        key = error.where.removeprefix(PLACE).removeprefix(": ")
        error.where = (key and origin(key, lines)) or _file_of(key, own, recipe_files)
        raise


def _file_of(key: str, table: Mapping[str, Any], recipe_files: Iterable[Path]) -> str:
    """The file that holds a key: that of the choice made in its group, else the defaults."""
    group = key.split(".", maxsplit=1)[0]
    if group not in groups.GROUPS or not isinstance(table.get(group), Mapping):
        return f"{PLACE}: {key}" if key else PLACE
    files = groups.choices(group) | ({path.stem: path for path in recipe_files} if group == "recipe" else {})
    file = files.get(str(table[group].get("name")))
    return f"{file}: {key}" if file else f"{PLACE}: {key}"


def compose(overrides: Overrides, *, with_hydra: bool = False) -> dict[str, Any]:
    """Compose the YAML files and `overrides` into one resolved table, or into what they say of Hydra itself."""
    from hydra import compose as hydra_compose
    from omegaconf import OmegaConf

    groups.register(overrides.recipe_files)
    with _hydra():
        composed = hydra_compose("config", list(overrides.lines), return_hydra_config=with_hydra)
        if with_hydra:
            hydra = composed.hydra
            return {
                "mode": str(hydra.mode),
                "params": dict(hydra.sweeper.params or {}),
                "launcher": str(hydra.runtime.choices["hydra/launcher"]),
            }
        table: Any = OmegaConf.to_container(composed, resolve=True)
        return dict(table)


@contextmanager
def _hydra() -> Iterator[Any]:
    """Hydra set up on `conf/`, its errors as ours; gives its configuration loader."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()  # in a launcher's job Hydra has set itself up already
    try:
        with initialize_config_dir(str(groups.data_folder("conf")), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise _as_ours(error) from error
    finally:
        GlobalHydra.instance().clear()


def expand(lines: Sequence[str], *, sweep: bool) -> list[list[str]]:
    """The overrides of every variant that `lines` describe: one without a sweep, the product of values with it."""
    about = _of_hydra(lines)
    params = [f"{key}={value}" for key, value in about["params"].items()]
    if not sweep and "MULTIRUN" not in about["mode"]:
        return [list(lines)]

    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    own = list({key_of(line): line for line in [*params, *lines]}.values())
    check(own, sweep=True)
    groups.register({})
    with _hydra() as loader:
        swept = OverridesParser.create(config_loader=loader).parse_overrides(
            [line for line in own if gives_several(line)]
        )
        batches = BasicSweeper.split_arguments(swept, max_batch_size=None)[0]
    return [_filled_in(own, batch) for batch in batches]


def launcher(lines: Sequence[str]) -> str:
    """The name of the launcher that `lines` choose, themselves or by an experiment."""
    return str(_of_hydra(lines)["launcher"])


def about_hydra(lines: Sequence[str]) -> list[str]:
    """Those of `lines` that may say how Hydra is to run."""
    return [line for line in lines if line.lstrip("+").startswith(("experiment=", "hydra.", "hydra/"))]


def _of_hydra(lines: Sequence[str]) -> dict[str, Any]:
    """Mode, parameters of the sweep and launcher."""
    deciding = about_hydra(lines)
    if not deciding:
        return {"mode": "", "params": {}, "launcher": BASIC}
    return compose(check(deciding, sweep=True), with_hydra=True)


def _filled_in(lines: Sequence[str], values: Sequence[str]) -> list[str]:
    """`lines` with the values of one variant in the place of those that give several."""
    rest = iter(values)
    return [next(rest) if gives_several(line) else line for line in lines]


def _as_ours(error: Exception) -> UserError:
    """Hydra's errors name no origin, except that a value which cannot be parsed is known."""
    lines = str(error).strip().splitlines()
    unparsed = getattr(error, "override", None)
    if unparsed:
        return UserError(
            f"the value cannot be read: {lines[0]}",
            where=f"{ORIGIN}: {unparsed.lstrip('+')}",
            fix="put quotes around it: \"key='value'\"",
        )
    return UserError(" ".join(lines[:2]), where="composing the configuration")
