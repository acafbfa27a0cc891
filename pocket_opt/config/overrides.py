"""Checks and canonical forms of what stands on the command line, before Hydra composes anything.

Every key is held against the schema, so a typo ends with the nearest right name; a key that the schema knows but the
YAML leaves out can be set without Hydra's `+`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pocket_opt.config import groups
from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError, unknown_name

ORIGIN = "command line"
NEUTRAL_KEYS = ("output_dir", "tracking", "timeout_s", "fail_fast", "toolchains", "hydra")
"""Keys that change where results go or how a run is supervised, not what is made."""

_OPENING = ("[", "{", "(", "'", '"')
_SWEEP_FUNCTIONS = ("choice", "range", "glob", "interval", "sort", "shuffle", "tag")


@dataclass(frozen=True)
class Overrides:
    """Checked overrides in Hydra's spelling, and by choice the recipe files that the user gave by path."""

    lines: tuple[str, ...]
    recipe_files: Mapping[str, Path] = field(default_factory=dict)


def check(lines: Sequence[str], *, sweep: bool) -> Overrides:
    """Check overrides as the user typed them and return them in the form Hydra takes.

    Args:
        sweep: whether several values for one key are meant (`-m`).

    Raises:
        UserError: no `key=value`, an unknown key or choice, or several values without a sweep.
    """
    files: dict[str, Path] = {}
    checked = []
    for line in lines:
        key, sign, value = _split(line)
        if _root(key) == "hydra" or (key in groups.GROUPS and sign == "~"):
            checked.append(line)
        elif key in groups.GROUPS:
            chosen = _check_choices(key, value, sweep=sweep, line=line)
            checked.append(f"{key}={','.join(chosen)}")
            if key == "recipe":
                files = {choice: path for choice, path in chosen.items() if path is not None}
        else:
            hint = _check_key(key, line)
            _check_value(line, value, sweep=sweep)
            _check_name(key, value, line)
            is_text = _strip_none(hint) is str and not (sweep and gives_several(line))
            checked.append(_set(key, sign, quoted(value) if is_text else value))
    return Overrides(tuple(checked), files)


def row_overrides(lines: Sequence[str]) -> tuple[str, ...]:
    """The overrides that make a row differ from others of the same recipe, target and level.

    Sorted, but for those of nodes: each is applied to what those before it have left.
    """
    kept = {}
    for line in lines:
        key, sign, value = _split(line)
        kept[key] = _canonical(key, sign, groups.recipe_choice(value) if key == "recipe" else value)
    own = [line for line in kept.values() if _makes_a_row(line)]
    return tuple(sorted(own, key=lambda line: "nodes" if line.startswith(("nodes.", "nodes=")) else line))


def _makes_a_row(line: str) -> bool:
    key, _, value = _split(line)
    if key == "recipe":
        return value.startswith(groups.FILE_CHOICE)
    if key == "experiment":
        return groups.sets_values(value)
    return key not in ("target", "level") and _root(key) not in NEUTRAL_KEYS


def _canonical(key: str, sign: str, value: str) -> str:
    """One spelling for what means the same, however it was typed."""
    text = value.lower() if value.lower() in ("true", "false", "null") else _unquoted(value)
    node = key.removesuffix(".enabled")
    if _is_node(node) and (sign == "~" or (node != key and text == "false")):
        return f"~{node}"
    return f"{key}=null" if sign == "~" else f"{key}={text}"


def origin(key: str, lines: Sequence[str]) -> str | None:
    """The override that sets `key` or a table above it, as a place for errors; None if no override does."""
    for line in reversed(lines):
        name = _split(line)[0]
        if name not in groups.GROUPS and f"{key}.".startswith(f"{name}."):
            return f"{ORIGIN}: {line}"
    return None


def _split(line: str) -> tuple[str, str, str]:
    """Key, sign (`+`, `++`, `~` or nothing) and value of an override."""
    body = line.lstrip("+~")
    sign = line[: len(line) - len(body)]
    key, equals, value = body.partition("=")
    if not equals and sign != "~":
        raise UserError(
            f"'{line}' is neither a verb nor an override", where=ORIGIN, allowed="key=value", fix="see --help"
        )
    return key, sign, value


def key_of(line: str) -> str:
    """The key that an override sets."""
    return _split(line)[0]


def gives_several(line: str) -> bool:
    """Whether an override has several values in a sweep: a list with commas or one of Hydra's functions."""
    value = _split(line)[2]
    return value[:1] not in _OPENING and ("," in value or value.partition("(")[0] in _SWEEP_FUNCTIONS)


def _root(key: str) -> str:
    """The first part of a key: "hydra" of "hydra.mode" and of "hydra/launcher"."""
    return key.split(".", maxsplit=1)[0].split("/", maxsplit=1)[0]


def _set(key: str, sign: str, value: str) -> str:
    """An override that Hydra accepts whether or not the YAML holds the key; removal becomes switching off."""
    if sign == "~":
        return f"++{key}.enabled=false" if _is_node(key) else f"++{key}=null"
    return f"++{key}={value}"


def _is_node(key: str) -> bool:
    """Whether a key names a whole node, or all of the baseline: "nodes.fuse", "nodes.baseline.latency"."""
    root, *rest = key.split(".")
    return root == "nodes" and (len(rest) == 1 or (len(rest) == 2 and rest[0] == "baseline"))


def _check_choices(group: str, value: str, *, sweep: bool, line: str) -> dict[str, Path | None]:
    """Check what a group is given; returns the choices, and the files of those that are given by path.

    What a function of Hydra's grammar stands for in a sweep, e.g. `glob(H*)`, is checked once it is expanded.
    """
    if not sweep and "," in value:
        raise _needs_sweep(line)
    if sweep and "(" in value:
        return {value: None}
    return dict(_check_choice(group, name.strip(), line) for name in value.split(","))


def _check_choice(group: str, name: str, line: str) -> tuple[str, Path | None]:
    path = groups.recipe_file(name) if group == "recipe" else None
    if path is not None and not path.is_file():
        raise UserError(
            f"there is no recipe file {path}",
            where=f"{ORIGIN}: recipe={path}",
            allowed="a YAML file, or one of " + ", ".join(groups.choices("recipe")),
            fix="correct the path",
        )
    if path is not None:
        return groups.recipe_choice(name), path
    if not (name == "null" and group == "experiment"):
        groups.check_choice(group, name, where=f"{ORIGIN}: {line}")
    return name, None


def _check_value(line: str, value: str, *, sweep: bool) -> None:
    if not sweep and value[:1] not in _OPENING and "," in value:
        raise _needs_sweep(line)


def _check_name(key: str, value: str, line: str) -> None:
    """The name of a choice is that of its file, and the bundle's directory is called after it."""
    group, _, last = key.partition(".")
    if group in groups.GROUPS and last == "name":
        groups.check_choice(group, value, where=f"{ORIGIN}: {line}")
        raise UserError(
            f"the name of a {group} is not set but follows from the choice",
            where=f"{ORIGIN}: {line}",
            fix=f"write {group}={value}",
        )


def quoted(value: str) -> str:
    """Text in Hydra's quotes, so that a path may hold `~`, `=`, brackets and whatever else its grammar refuses."""
    if value in ("", "null") or value[:1] in _OPENING or "${" in value:
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _needs_sweep(line: str) -> UserError:
    return UserError(
        f"'{line}' gives several values",
        where=ORIGIN,
        allowed="one value",
        fix="add -m to run a sweep over them",
    )


def _unquoted(value: str) -> str:
    """The text inside Hydra's quotes: what was typed, also where a launcher hands on the quoted form."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    return re.sub(
        rf"(\\*)({value[0]}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1]
    )


def _check_key(key: str, line: str) -> Any:
    """Walk the key through the schema and return its type; UserError at the first part that is not there."""
    hint: Any = Config
    done: list[str] = []
    for part in key.split("."):
        hint = _with_keys(hint)
        if is_dataclass(hint) and isinstance(hint, type):
            names = [entry.name for entry in fields(hint)]
            if part not in names:
                known = [".".join([*done, name]) for name in names]
                raise unknown_name("key", ".".join([*done, part]), known, where=f"{ORIGIN}: {line}")
            hint = get_type_hints(hint)[part]
        elif get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
            names, hint = get_args(hint)
            if get_origin(names) is Literal and part not in get_args(names):
                known = [".".join([*done, name]) for name in get_args(names)]
                raise unknown_name("key", ".".join([*done, part]), known, where=f"{ORIGIN}: {line}")
        elif hint is not Any:
            raise UserError(
                f"'{'.'.join(done)}' is a value and has no key '{part}'", where=f"{ORIGIN}: {line}"
            )
        done.append(part)
    return hint


def _with_keys(hint: Any) -> Any:
    """Of a choice between a value and one kind of table, the table: only that has keys."""
    tables = [kind for kind in get_args(hint) if isinstance(kind, type) and is_dataclass(kind)]
    return tables[0] if isinstance(hint, types.UnionType) and len(tables) == 1 else _strip_none(hint)


def _strip_none(hint: Any) -> Any:
    kinds = [option for option in get_args(hint) if option is not type(None)]
    return kinds[0] if len(kinds) == 1 and type(None) in get_args(hint) else hint
