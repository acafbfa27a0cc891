"""The named choices: Hydra groups from `conf/`, and `recipes/` and `experiments/` registered as groups of their own.

Works from a checkout, an editable install and a wheel (which carries the three folders inside the package).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pocket_opt.config.parsing import expanded
from pocket_opt.config.schema import LEVELS
from pocket_opt.errors import UserError, unknown_name

PACKAGE = Path(__file__).resolve().parent.parent
USER_FOLDERS = {"recipe": "POCKET_OPT_RECIPES", "target": "POCKET_OPT_TARGETS"}
"""Group -> the environment variable that names a directory of the user's own choices."""
GROUPS = ("recipe", "target", "level", "decoder", "decoding", "search", "tracking", "experiment")
FILE_CHOICE = "file-"
"""Begins the choice that stands for a recipe file which the user named by its path."""

_OWN_FOLDERS = {"recipe": "recipes", "experiment": "experiments"}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which a date is text, as everywhere in Hydra; read by the C library where PyYAML has it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
        table = yaml.load(_text(path), _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
        raise UserError(f"{problem}", where=f"{path}{line}", fix="correct the file") from error
    if not isinstance(table, dict):
        raise UserError("the file holds no table of keys", where=str(path), fix="see recipes/ for examples")
    return table


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the file cannot be read ({error})", where=str(path), fix="check the path"
        ) from error


def summary(group: str, name: str) -> str:
    """The one line that describes a choice: its `summary`, or the first comment of its file."""
    path = choices(group)[name]
    own = read_yaml(path).get("summary")
    first = path.read_text().splitlines()[0] if path.stat().st_size else ""
    return str(own) if own else first.removeprefix("#").strip() if first.startswith("#") else ""


def canonical(group: str, name: str) -> str:
    """The choice that `name` stands for: another one, where its file holds nothing but that one's name."""
    table = read_yaml(choices(group)[name])
    bases = table.get("defaults", [])
    return str(bases[0]) if table.keys() == {"defaults"} and len(bases) == 1 else name


def recipe_file(text: str) -> Path | None:
    """The file meant by `recipe=TEXT` when it is a path rather than a name."""
    is_path = text.endswith((".yaml", ".yml")) or os.sep in text
    return expanded(text, where=f"recipe={text}") if is_path else None


def recipe_choice(text: str) -> str:
    """What Hydra and the identity of a row call `recipe=TEXT`: a name as it is, a file by its content.

    So files of one name are told apart wherever they lie, and the same file keeps its rows when it is moved.
    """
    path = recipe_file(text)
    return text if path is None else FILE_CHOICE + hashlib.sha256(_text(path).encode()).hexdigest()[:8]


def register(recipe_files: Mapping[str, Path]) -> None:
    """Put recipes and experiments, and the recipe files that the user named (by choice), where Hydra finds them."""
    for choice, path in {**choices("recipe"), **recipe_files}.items():
        _store("recipe", choice, path, {**_recipe(path), "name": path.stem})
    for name, path in choices("target").items():
        if path.parent != data_folder("conf") / "target":
            _store("target", name, path, {"threads": 0, **read_yaml(path), "name": name})
    for name, path in choices("experiment").items():
        _store("experiment", name, path, read_yaml(path), package="_global_")


def _store(group: str, choice: str, path: Path, table: dict[str, Any], package: str | None = None) -> None:
    from hydra.core.config_store import ConfigStore
    from omegaconf.errors import OmegaConfBaseException

    try:
        ConfigStore.instance().store(
            group=group, name=choice, node=table, package=package, provider=str(path)
        )
    except OmegaConfBaseException as error:
        what = str(error).splitlines()[0]
        raise UserError(
            what, where=str(path), allowed="text, numbers, lists, tables", fix="correct the file"
        ) from error


def _recipe(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The table of a recipe that begins with recipes which are there, and not with itself.

    Args:
        above: the recipes that begin with this one.
    """
    table, where = read_yaml(path), f"{path}: defaults"
    bases = table.get("defaults", [])
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(
            f"'{bases}' is no list of recipes",
            where=where,
            allowed=", ".join(choices("recipe")),
            fix="write defaults: [RECIPE, _self_]",
        )
    if path in above:
        raise UserError("the recipe begins with itself", where=where, fix="name another recipe")
    for base in bases:
        if base != "_self_":
            check_choice("recipe", base, where=where)
            _recipe(choices("recipe")[base], (*above, path))
    return table


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
    variable = USER_FOLDERS.get(group, "")
    if os.environ.get(variable):
        folder = expanded(os.environ[variable], where=f"${variable}")
        if not folder.is_dir():
            raise UserError(
                f"there is no directory {folder}", where=f"${variable}", fix="correct or unset it"
            )
        yield folder
