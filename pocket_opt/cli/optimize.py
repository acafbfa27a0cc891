"""No verb: optimize. Every variant is planned before the first one runs; launchers of Hydra may run them elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.markup import escape

from pocket_opt.cli.console import NodeLines, console, errors, title
from pocket_opt.cli.planned import is_sweep, overrides_in, plan_all
from pocket_opt.config import groups
from pocket_opt.config.loading import BASIC, about_hydra, launcher, load
from pocket_opt.config.overrides import check, quoted
from pocket_opt.disk import unexpected
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.sessions import Session
from pocket_opt.variants import provide_toolchains, reach_device

HYDRA_FLAGS = ("--hydra-help", "--cfg", "-c", "--info", "-i", "--package", "-p", "--resolve")


def run(arguments: Sequence[str]) -> int:
    """Run the variant or the sweep that the arguments describe; returns the exit code."""
    if any(word.split("=")[0] in HYDRA_FLAGS for word in arguments):
        return _show(arguments)
    planned, overrides = plan_all(arguments), overrides_in(arguments)
    plans = [variant.plan for variant in planned]
    for plan in plans:
        provide_toolchains(plan, lambda line: console.print(f"  {line}", markup=False, style="dim"))
        reach_device(plan)
    sweep = is_sweep(arguments) or len(plans) > 1
    if launcher(overrides) == BASIC:
        session = Session.begin(plans, sweep=sweep)
        for number, plan in enumerate(plans):
            run_shown(session, number, plan)
    else:
        session = Session.begin(plans, sweep=sweep, lines=[variant.lines for variant in planned])
        _launch(session, overrides)
    return conclude(session, plans)


def run_shown(session: Session, number: int, plan: Plan) -> None:
    """Run one variant of a session and show it on the console, unless one has failed and that ends the session."""
    if plan.config.fail_fast and session.has_failed():
        return
    console.print(f"{title(plan)} {escape(' '.join(plan.overrides))}")
    lines = NodeLines()
    try:
        variant = session.run(number, plan, lines)
    finally:
        lines.close()
    for warning in variant.warnings:
        errors.print(f"warning: {warning}", markup=False)
    if variant.succeeded:
        console.print(f"  {lines.summary()} → {_near(variant.bundle)}\n", markup=False)
    else:
        errors.print(f"error: {variant.error}\n", markup=False)


def conclude(session: Session, plans: Sequence[Plan]) -> int:
    """Show the table over all variants, write the report, return the exit code."""
    from pocket_opt.report.table import render_table

    finished = session.conclude(plans)
    if finished.manifests or finished.failures:
        console.print(render_table(finished.manifests, finished.failures))
    for name, path in finished.places.items():
        console.print(f"{name:<9}{_near(path)}", markup=False)
    for warning in finished.warnings:
        errors.print(f"warning: {warning}", markup=False)
    return 1 if finished.failures else 0


def _near(path: Path | str | None) -> str:
    """A path relative to the working directory where it lies below it."""
    if isinstance(path, Path) and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _show(arguments: Sequence[str]) -> int:
    """What Hydra shows of a configuration: its flags as they are, and overrides checked."""
    if is_sweep(arguments):
        raise UserError(
            "Hydra shows one variant, not a sweep",
            where="command line: " + " ".join(arguments),
            fix="leave -m out and give every key one value, or see `pocket-opt plan -m ...`",
        )
    overrides = [word for word in arguments if ("=" in word or word[:1] == "~") and word[:1] != "-"]
    checked = check(overrides, sweep=False)
    flags = [word for word in arguments if word not in overrides]
    return ask_hydra([*flags, *checked.lines], checked.recipe_files)


def _launch(session: Session, overrides: Sequence[str]) -> None:
    """Have a launcher of Hydra run the variants; what it does not bring back is found when the session ends."""
    chosen = check(about_hydra(overrides), sweep=True)
    place = quoted(str(session.directory))
    numbers = ",".join(str(number) for number in range(len(session.lines)))
    own = [
        f"+session={place}",
        f"+variant={numbers}",
        f"hydra.sweep.dir={place}",
        "hydra.sweeper.params=null",
    ]
    with suppress(SystemExit):
        ask_hydra(["-m", *chosen.lines, *own, "hydra.mode=MULTIRUN"])


def ask_hydra(arguments: list[str], recipe_files: Mapping[str, Path] | None = None) -> int:
    """Hand over to Hydra's own command line."""
    import hydra

    groups.register(recipe_files or {})
    sys.argv = [sys.argv[0], *arguments]
    hydra.main(str(groups.data_folder("conf")), config_name="config", version_base="1.3")(job)()
    return 0


def job(composed: Any) -> None:
    """Hydra's task: one variant of the session that the parent process began."""
    session, number = Session.join(Path(composed.session)), int(composed.variant)
    lines = session.lines[number]
    try:
        run_shown(session, number, plan_variant(load(lines), lines))
    except Exception as error:
        told = error if isinstance(error, PocketOptError) else unexpected(error, session.directory)
        session.give_up(number, str(told))
        errors.print(f"error: {told}\n", markup=False)
