"""The named choices: Hydra groups from `conf/`, and `recipes/` and `experiments/` registered as groups of their own.

Works from a checkout, an editable install and a wheel (which carries the three folders inside the package).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pocket_opt.config.schema import LEVELS
from pocket_opt.errors import UserError, unknown_name

PACKAGE = Path(__file__).resolve().parent.parent
USER_RECIPES = "POCKET_OPT_RECIPES"
GROUPS = ("recipe", "target", "level", "decoder", "decoding", "tracking", "experiment")
_OWN_FOLDERS = {"recipe": "recipes", "experiment": "experiments"}


def data_folder(name: str) -> Path:
    """`conf`, `recipes` or `experiments`: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


@cache
def choices(group: str) -> dict[str, Path]:
    """Every name of a group and the file that defines it, the user's own recipes included."""
    files: dict[str, Path] = {}
    for folder in _folders(group):
        files.update({path.stem: path for path in sorted(folder.glob("*.yaml"), key=_order)})
    return files


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError with file and line if it is not one."""
    try:
        table = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
        raise UserError(f"{problem}", where=f"{path}{line}", fix="correct the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the file cannot be read ({error})", where=str(path), fix="check the path"
        ) from error
    if not isinstance(table, dict):
        raise UserError("the file holds no table of keys", where=str(path), fix="see recipes/ for examples")
    return table


def summary(group: str, name: str) -> str:
    """The one line that describes a choice: its `summary`, or the first comment of its file."""
    path = choices(group)[name]
    own = read_yaml(path).get("summary")
    first = path.read_text().splitlines()[0] if path.stat().st_size else ""
    return str(own) if own else first.removeprefix("#").strip() if first.startswith("#") else ""


def recipe_file(text: str) -> Path | None:
    """The file meant by `recipe=TEXT` when it is a path rather than a name."""
    return Path(text).expanduser() if text.endswith((".yaml", ".yml")) or os.sep in text else None


def register(recipe_files: Iterable[Path] = ()) -> None:
    """Put recipes and experiments (and the recipe files that the user named) where Hydra finds them."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    recipes = choices("recipe") | {path.stem: path for path in recipe_files}
    for name, path in recipes.items():
        store.store(group="recipe", name=name, node={**read_yaml(path), "name": name}, provider=str(path))
    for name, path in choices("experiment").items():
        store.store(
            group="experiment", name=name, node=read_yaml(path), package="_global_", provider=str(path)
        )


def sets_values(experiment: str) -> bool:
    """Whether an experiment changes what is made, besides saying which values to sweep."""
    file = choices("experiment").get(experiment)
    return file is not None and bool(read_yaml(file).keys() - {"hydra"})


def check_choice(group: str, name: str, *, where: str) -> None:
    """UserError with the nearest name if `group` has no choice `name`."""
    if name not in choices(group):
        raise unknown_name(group, name, choices(group), where=where)


def _order(path: Path) -> tuple[int, str]:
    """Levels by how hard they optimize, everything else by name."""
    return (LEVELS.index(path.stem) if path.stem in LEVELS else len(LEVELS), path.stem)


def _folders(group: str) -> Iterator[Path]:
    if group in _OWN_FOLDERS:
        yield data_folder(_OWN_FOLDERS[group])
    else:
        yield data_folder("conf") / group
    if group == "recipe" and os.environ.get(USER_RECIPES):
        folder = Path(os.environ[USER_RECIPES]).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"there is no directory {folder}", where=f"${USER_RECIPES}", fix="correct or unset it"
            )
        yield folder
