"""Takes paths and secrets out of what is published, so that a bundle can be moved and given away.

A configuration names directories of its author, servers with passwords, access tokens. What is scrubbed stays visible
as `<path>` or `<secret>`, so that a reader sees that a value was set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH, SECRET = "<path>", "<secret>"

_ROOTS = (
    "Applications|Library|System|Users|Volumes|bin|boot|data|dev|etc|home|lib|lib64|media|mnt|nix|opt|private|proc"
    "|root|run|scratch|snap|srv|storage|sys|tmp|usr|var|work|workspace"
)
"""First parts of absolute paths. In text a fixed list, because names of graph nodes also begin with a slash."""

_WHOLE = re.compile(
    rf"(?:/(?:{_ROOTS})(?:/|$)|~[\w.-]*[/\\]|[A-Za-z]:[\\/]|\\\\[\w.$-]+\\|(?:\S*[/\\])?\.\.(?:[/\\]|$))"
)
_WITHIN = re.compile(
    rf"(?:\b(?:file|sqlite)(?:\+\w+)?:/+|(?<![\w.~<>/:])(?:/(?:{_ROOTS})/|~[\w.-]*/|[A-Za-z]:[\\/]|\.\.[\\/]))"
    r"[^\s'\",;)\]}]*"
)
_WITHIN_OVERRIDE = re.compile(r"(?<![\w.~<>/])/(?!/)[^'\",;)\]}]*")
_USERINFO = re.compile(r"(?<=//)(?:[^/\s:@\[]*:(?!\d+(?:[/?#\s]|$))\S*|[^/\s]+)@")
"""Up to the last `@`: a password that was not encoded holds others, or a slash; but a number is a port."""

_SECRET_VALUE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[\w-]{16,}|AKIA[A-Z0-9]{12,}"
    r"|xox[abpr]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_SECRET_QUERY = re.compile(r"(?i)([?&](?:[\w-]*(?:token|key|secret|password|signature|sig))=)[^&\s]+")
_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_.-])(?:token|secret|password|passwd|passphrase|credentials?|authorization|apikey|api[_-]?key"
    r"|access[_-]?key|private[_-]?key)$"
)
_PATH_NAME = re.compile(
    r"(?i)(?:^|[_.-])(?:path|dir|directory|folder)$|(?:^|\.)data\.(?:evaluation|calibration)$|^\.?overrides$"
)
_SHIPPED = "sample:"
_NODE = ".name"
"""The key that the name of a graph node stands under."""
_HOME = os.path.expanduser("~/")  # noqa: PTH111  (Path.expanduser fails for a user without a home)
_VOCABULARY_NAME = re.compile(
    r"(?i)(?:bos|eos|pad|unk|cls|sep|mask|start|end|special|suppress|forced|additional)"
)


def scrub(value: Any, name: str = "") -> Any:
    """A copy of JSON data without paths, passwords in URIs and secrets (by the name of their key or by their form).

    Args:
        name: the key that `value` stands under, with those above it: "data.evaluation.path".
    """
    if isinstance(value, Mapping):
        return {str(key): scrub(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item, name) for item in value]
    if isinstance(value, Path):
        return scrub(str(value), name)
    if isinstance(value, str):
        return _scrub_string(value, name)
    return value


def scrub_override(line: str) -> str:
    """One `key=value` of a command line."""
    key, sign, value = line.partition("=")
    return f"{key}{sign}{_WITHIN_OVERRIDE.sub(PATH, _scrub_string(value, key))}"


def scrub_text(text: str) -> str:
    """One string without absolute paths, passwords and recognisable tokens."""
    if _WHOLE.match(text):
        return PATH
    text = _SECRET_QUERY.sub(rf"\1{SECRET}", _SECRET_VALUE.sub(SECRET, without_password(text)))
    return _WITHIN.sub(PATH, text.replace(_HOME, f"{PATH}/"))


def without_password(text: str) -> str:
    """`text` with `user:password@` taken out of its URIs."""
    return _USERINFO.sub("", text)


def _scrub_string(text: str, name: str) -> str:
    if text and _is_secret_name(name):
        return SECRET
    if text and _PATH_NAME.search(name) and not text.startswith(_SHIPPED):
        return PATH
    if text.startswith("/") and not name.endswith(_NODE):
        return PATH
    return scrub_text(text)


def _is_secret_name(name: str) -> bool:
    key = name.rpartition(".")[2]
    return bool(_SECRET_NAME.search(key)) and not _VOCABULARY_NAME.search(key)
