"""`doctor`: per target what is installed and whether one operator really runs there; disk, memory, what to install."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from pocket_opt import worker
from pocket_opt.cli.console import console
from pocket_opt.cli.toolchain import state_of
from pocket_opt.errors import PocketOptError
from pocket_opt.home import home
from pocket_opt.hosts import host
from pocket_opt.planner import installed_version
from pocket_opt.targets import load_target, target_names
from pocket_opt.targets.base import Package, Target
from pocket_opt.toolchains import load_toolchain, toolchain_names

CORE = ("torch", "transformers", "hydra-core", "mlflow", "jiwer", "soundfile")
PROBE_TIMEOUT_S = 120.0
OK, BAD = "[green]ok[/green]", "[red]missing[/red]"


def run(arguments: Sequence[str]) -> int:
    """Print the findings; exit code 0 when every target works here."""
    if "--help" in arguments or "-h" in arguments:
        console.print("usage: pocket-opt doctor [TARGET ...]", markup=False)
        return 0
    targets = [load_target(name) for name in (arguments or target_names())]
    _machine()
    healthy = _packages("core", [Package(name, f"pip install {name}") for name in CORE])
    for target in targets:
        healthy = _target(target) and healthy
    for name in toolchain_names():
        console.print(f"toolchain {name}: {state_of(load_toolchain(name))}")
    console.print(
        "ffmpeg (only for AAC)",
        OK if shutil.which("ffmpeg") else "not installed: apt install ffmpeg, or your system's way",
    )
    return 0 if healthy else 1


def _machine() -> None:
    facts = host()
    here = home()
    place = next(path for path in (here, *here.parents) if path.exists())
    console.print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB memory, "
        f"{facts['system']}, Python {facts['python']}",
        markup=False,
    )
    console.print(
        f"home {here}: {shutil.disk_usage(place).free / 1e9:.1f} GB free"
        + ("" if os.access(place, os.W_OK) else ", NOT WRITABLE"),
        markup=False,
    )
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    console.print(f"working directory {Path.cwd()}: {free:.1f} GB free\n", markup=False)


def _packages(title: str, packages: Sequence[Package]) -> bool:
    table = Table(title, "version", "", box=None, pad_edge=False, header_style="bold")
    complete = True
    for package in packages:
        found = installed_version(package.distribution)
        complete = complete and found != "absent"
        state = OK if found != "absent" else f"{BAD}: {escape(package.install)}"
        table.add_row(escape(package.distribution), escape(found), state)
    console.print(table, "")
    return complete


def _target(target: Target) -> bool:
    """Packages of a target, then one operator run through its runtime in a worker."""
    if not _packages(f"target {target.name}", target.packages):
        return False
    try:
        value = worker.call(target.probe_task, {}, timeout_s=PROBE_TIMEOUT_S).value
    except PocketOptError as error:
        console.print(f"  [red]one operator did not run[/red]: {escape(str(error))}\n")
        return False
    console.print(f"  {OK} one operator ran: {escape(str(value))}\n")
    return True
