"""Tab completion: the verbs are completed here, overrides by Hydra, which knows of no verbs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, suppress

from pocket_opt.cli.optimize import ask_hydra

LINE = "COMP_LINE"
"""The environment variable in which shells hand over what is typed so far."""

WITH_OVERRIDES = ("plan", "explain")


def run(arguments: Sequence[str], verbs: Iterable[str]) -> int:
    """Answer a shell's question, or print what it is to evaluate (`-sc install=bash`)."""
    if not any(word.startswith("query=") for word in arguments):
        return ask_hydra(list(arguments))
    program, _, typed = os.environ.get(LINE, "").lstrip().partition(" ")
    *before, last = typed.split(" ")
    words = [word for word in before if word]
    if not words:
        sys.stdout.writelines(f"{verb}\n" for verb in verbs if verb.startswith(last))
    elif words[0] in verbs and words[0] not in WITH_OVERRIDES:
        return 0
    os.environ[LINE] = " ".join([program, *filter(_is_for_hydra, words), last])
    with suppress(SystemExit), redirect_stderr(io.StringIO()):  # what is typed may be wrong as yet
        ask_hydra(list(arguments))
    return 0


def _is_for_hydra(word: str) -> bool:
    return "=" in word or word.startswith(("-", "~"))
