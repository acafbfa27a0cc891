"""The dispatcher in front of Hydra: verbs here, everything else is an optimization run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pocket_opt import __version__
from pocket_opt.disk import unexpected
from pocket_opt.errors import PocketOptError, nearest, unknown_name

COMPLETION = ("-sc", "--shell-completion")
VERBS = {
    "plan": "the graph as a table, without loading a model or touching the network",
    "list": "recipes, targets, levels and passes, one line each",
    "doctor": "what is installed and really works here, and what to install for the rest",
    "explain": "what a node's key is made of and what differs from the last run",
    "transcribe": "text of audio files by a bundle",
    "validate": "check bundles: digests, loading, running, budgets",
    "report": "rebuild tables and the HTML page from bundles",
    "gc": "bound the size of the store",
    "toolchain": "install, list and remove environments of tools that cannot live in this one",
}
HELP = """\
pocket_opt: from a speech model to a measured bundle for the device it must run on.

  python -m pocket_opt [KEY=VALUE ...]            optimize (default: recipe=pocket_whisper target=cpu level=HIGH)
  python -m pocket_opt -m level=NONE,HIGH         a sweep over values
  python -m pocket_opt VERB ...                   one of the verbs below; VERB --help tells more
  python -m pocket_opt --version

verbs
{verbs}

choices
{choices}

Every key of docs/configuration.md can be set: recipe.model.path=DIR, data.evaluation.path=DIR, output_dir=DIR,
nodes.NODE.params.NAME=VALUE, ~nodes.NODE (switch off), nodes.NEW.pass=PASS (add). Tab completion:
  eval "$(pocket-opt -sc install=bash)"
"""


def entry() -> None:
    """Run the command line of this process and exit with its status."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0, 1 for a failure during the run, 2 for a mistake in the input."""
    try:
        return _dispatch(list(arguments))
    except PocketOptError as error:
        return _told(error)
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted; what is finished stays in the store, the same command goes on from there\n"
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _told(unexpected(error, Path()))


def _told(error: PocketOptError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code


def _dispatch(arguments: list[str]) -> int:
    word = arguments[0] if arguments else ""
    if "--version" in arguments:
        sys.stdout.write(f"pocket_opt {__version__}\n")
        return 0
    if word in VERBS:
        return int(importlib.import_module(f"pocket_opt.cli.{word}").run(arguments[1:]))
    if word == "help" or "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_help())
        return 0
    if word.isidentifier():
        raise _unknown_word(word)
    if any(flag in COMPLETION for flag in arguments):
        from pocket_opt.cli import completion

        return completion.run(arguments, VERBS)
    from pocket_opt.cli import optimize

    return optimize.run(arguments)


def _unknown_word(word: str) -> PocketOptError:
    from pocket_opt.config import groups

    for group in groups.GROUPS:
        near = nearest(word, groups.choices(group))
        if near and near.lower() == word.lower():
            error = unknown_name("verb", word, VERBS, where="command line")
            error.fix = f"write {group}={near}"
            return error
    return unknown_name("verb", word, VERBS, where="command line")


def _help() -> str:
    from pocket_opt.config import groups

    verbs = "\n".join(f"  {name:<12}{text}" for name, text in VERBS.items())
    choices = "\n".join(f"  {group + '=':<12}{', '.join(groups.choices(group))}" for group in groups.GROUPS)
    return HELP.format(verbs=verbs, choices=choices)
