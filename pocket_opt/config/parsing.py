"""From plain data (YAML, JSON, the command line) to frozen dataclasses, with errors that name key, origin and remedy.

One parser serves everything a user may write: configuration, recipes, levels and the parameters of passes. Supported
field types: str, int, float, bool, None, Any, Literal, unions, tuple[X, ...], tuple[X, Y], Mapping[str, X] and
dataclasses. The bounds of a number stand in its field's metadata: `{"at_least": 1, "at_most": 5}`; text that names a
place on a disk or in a network has `{"place": True}`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pocket_opt.errors import UserError, unknown_name

T = TypeVar("T")
_SCALARS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def parse(kind: type[T], data: Any, *, where: str) -> T:
    """Build `kind`, a dataclass, from a mapping.

    Args:
        where: what to call the place in errors, e.g. "recipe whisper_tiny".

    Raises:
        UserError: a key that does not exist (with the nearest one), is missing, or holds a value of another type.
    """
    if not isinstance(data, Mapping):
        raise _wrong(data, "a table of keys", where)
    hints = _hints(kind)  # type: ignore[arg-type]
    for key in data:
        if key not in hints:
            raise unknown_name("key", str(key), hints, where=where)
    values = {key: convert(hints[key], value, where=_join(where, key)) for key, value in data.items()}
    for entry in fields(kind):  # type: ignore[arg-type]
        if entry.name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise UserError(f"the key '{entry.name}' is missing", where=where, fix=f"add {entry.name}")
        value = values.get(entry.name)
        if value is not None and {"at_least", "at_most"} & entry.metadata.keys():
            _check_bounds(entry.metadata, value, _join(where, entry.name))
        if entry.metadata.get("place") and value is not None:
            expanded(value, where=_join(where, entry.name))
    return kind(**values)


def _check_bounds(bounds: Mapping[str, Any], value: Any, where: str) -> None:
    """UserError if a number is below `at_least` or above `at_most`."""
    least, most = bounds.get("at_least", -math.inf), bounds.get("at_most", math.inf)
    if not least <= value <= most:
        raise _wrong(value, f"a number from {least} {'on' if most == math.inf else f'to {most}'}", where)


def expanded(text: str, *, where: str) -> Path:
    """The path that a user wrote, `~` expanded; UserError if nothing is written or `~name` is nobody."""
    if not text.strip():
        raise UserError(
            "the text is empty where a place is to be named",
            where=where,
            fix="name it, or leave the key out (is a variable of your shell not set?)",
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        name = text.split("/", maxsplit=1)[0]
        raise UserError(
            f"there is no home directory '{name}'", where=where, fix="correct the path"
        ) from error


def convert(hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the type `hint`; UserError if it is of another type or not among the allowed values."""
    origin, options = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(options, value, where)
    if origin is Literal:
        if value in options:
            return value
        if isinstance(value, str):
            raise unknown_name("value", value, map(str, options), where=where)
        raise _wrong(value, "one of " + ", ".join(map(str, options)), where)
    if origin is tuple:
        return _sequence(options, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(value, "a table of keys", where)
        return {
            convert(options[0], key, where=where): convert(options[1], item, where=_join(where, key))
            for key, item in value.items()
        }
    if isinstance(hint, type) and is_dataclass(hint):
        return parse(hint, value, where=where)
    return _scalar(hint, value, where)


def _sequence(options: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A list of any length (`tuple[X, ...]`), or of exactly the given members (`tuple[X, Y]`)."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise _wrong(value, "a list", where)
    members = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
    if len(members) != len(value):
        raise _wrong(value, f"a list of {len(members)}", where)
    return tuple(
        convert(kind, item, where=f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(members, value, strict=True))
    )


def _one_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    kinds = [option for option in options if option is not type(None)]
    if len(kinds) == 1:
        return convert(kinds[0], value, where=where)
    tables = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
    if isinstance(value, Mapping) and len(tables) == 1:
        return convert(tables[0], value, where=where)
    for option in kinds:
        try:
            return convert(option, value, where=where)
        except UserError:
            continue
    raise _wrong(value, " or ".join(_SCALARS.get(option, str(option)) for option in kinds), where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if type(value) is hint:
        return value
    raise _wrong(value, _SCALARS.get(hint, str(hint)), where)


def _wrong(value: Any, wanted: str, where: str) -> UserError:
    found = "nothing" if value is None else f"'{value}' ({type(value).__name__})"
    return UserError(
        f"{found} stands where {wanted} is expected", where=where, allowed=wanted, fix="change the value"
    )


def _join(where: str, key: Any) -> str:
    """Extend a place by a key: "recipe x" -> "recipe x: model" -> "recipe x: model.path"."""
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in fields(kind)}
