"""`toolchain`: install, list and remove the environments of tools that cannot live in this one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from pocket_opt.cli.console import console
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.home import read_json
from pocket_opt.toolchains import Toolchain, load_toolchain, toolchain_names
from pocket_opt.toolchains.environments import RECORD, find, install, place_of, remove

ACTIONS = ("install", "list", "remove")
USAGE = """\
usage: pocket-opt toolchain install NAME | list | remove NAME

An environment is made from pinned requirements under POCKET_OPT_HOME/toolchains, by pip with your own settings. On
Linux PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu keeps torch from bringing several GB of CUDA packages.
"""


def run(arguments: Sequence[str]) -> int:
    """Carry one action out."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        console.print(USAGE, markup=False)
        return 0
    action, *names = arguments
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS, where="toolchain")
    if action == "list":
        _list()
        return 0
    if len(names) != 1:
        raise UserError(
            f"toolchain {action} takes one name",
            where="command line",
            allowed=", ".join(toolchain_names()),
            fix=f"write pocket-opt toolchain {action} NAME",
        )
    toolchain = load_toolchain(names[0])
    if action == "install":
        return _install(toolchain)
    count = remove(toolchain)
    console.print(f"{count} environments of {toolchain.name} removed", markup=False)
    return 0


def state_of(toolchain: Toolchain) -> str:
    """Whether an environment is there, and its size; as markup of rich."""
    if find(toolchain) is None:
        return f"not installed: pocket-opt toolchain install {toolchain.name}"
    size = read_json(place_of(toolchain) / RECORD)["bytes"]
    return f"[green]installed[/green], {size / 1e6:.0f} MB"


def _install(toolchain: Toolchain) -> int:
    console.print(f"installing {toolchain.name} into {place_of(toolchain)}", markup=False)
    environment = install(toolchain, lambda line: console.print(f"  {line}", markup=False, style="dim"))
    named = ", ".join(f"{name} {environment.versions.get(name, '')}" for name, _ in toolchain.pins[:4])
    console.print(f"{toolchain.name} is installed: {named}", markup=False)
    return 0


def _list() -> None:
    table = Table("toolchain", "for", "state", "place", box=None, pad_edge=False, header_style="bold")
    for name in toolchain_names():
        toolchain = load_toolchain(name)
        table.add_row(name, escape(toolchain.summary), state_of(toolchain), escape(str(place_of(toolchain))))
    console.print(table)
