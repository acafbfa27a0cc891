"""No verb: optimize. Every variant is planned before the first one runs, so that a mistake costs nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocket_opt.cli.console import NodeLines, console, errors
from pocket_opt.config import groups
from pocket_opt.config.loading import expand, from_table, load
from pocket_opt.config.overrides import check
from pocket_opt.errors import PocketOptError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.sessions import Session, Variant

HYDRA_FLAGS = (
    "--hydra-help", "--cfg", "-c", "--info", "-i", "--package", "-p", "--resolve", "--shell-completion", "-sc",
)  # fmt: skip
LAUNCHER = "hydra/launcher="
SESSION_VARIABLE = "POCKET_OPT_SESSION"


def run(arguments: Sequence[str]) -> int:
    """Run the variant or the sweep that the arguments describe; returns the exit code."""
    if any(word.split("=")[0] in HYDRA_FLAGS for word in arguments):
        return _hydra(*_checked(arguments))
    sweep = any(word in ("-m", "--multirun") for word in arguments)
    overrides = [word for word in arguments if word not in ("-m", "--multirun")]
    plans = [plan_variant(load(lines), lines) for lines in expand(overrides, sweep=sweep)]
    session = Session.begin(plans, sweep=sweep or len(plans) > 1)
    if any(word.startswith(LAUNCHER) for word in overrides):
        os.environ[SESSION_VARIABLE] = str(session.directory)
        checked = check(overrides, sweep=True)
        _hydra(["-m", *checked.lines], checked.recipe_files)
    else:
        for plan in plans:
            if not run_shown(plan, session).succeeded and plan.config.fail_fast:
                break
    return conclude(session)


def run_shown(plan: Plan, session: Session) -> Variant:
    """Run one variant of a session and show it on the console."""
    config = plan.config
    console.print(
        f"[bold]{config.recipe.name} · {config.target.name} · {config.level.name}[/bold] {' '.join(plan.overrides)}"
    )
    lines = NodeLines()
    try:
        variant = session.run(plan, lines)
    finally:
        lines.close()
    for warning in variant.warnings:
        errors.print(f"warning: {warning}", markup=False)
    if variant.succeeded:
        console.print(f"  {lines.summary()} → {_near(variant.bundle)}\n", markup=False)
    else:
        errors.print(f"error: {variant.error}\n", markup=False)
    return variant


def conclude(session: Session) -> int:
    """Show the table over all variants, write the report, return the exit code."""
    from pocket_opt.report.table import render_table

    finished = session.conclude()
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


def _checked(arguments: Sequence[str]) -> tuple[list[str], Mapping[str, Path]]:
    """Hydra's flags as they are, and overrides checked; behind `-sc` stand words of its own."""
    if any(word in ("-sc", "--shell-completion") for word in arguments):
        return list(arguments), {}
    overrides = [word for word in arguments if ("=" in word or word[:1] == "~") and word[:1] != "-"]
    checked = check(overrides, sweep=False)
    return [word for word in arguments if word not in overrides] + [*checked.lines], checked.recipe_files


def _hydra(arguments: list[str], recipe_files: Mapping[str, Path]) -> int:
    """Hand over to Hydra: its own questions, and launchers that run variants in other processes."""
    import hydra

    groups.register(recipe_files)
    sys.argv = [sys.argv[0], *arguments]
    hydra.main(str(groups.data_folder("conf")), config_name="config", version_base="1.3")(job)()
    return 0


def job(composed: Any) -> None:
    """Hydra's task: one variant of the session that the parent process began."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    lines = list(HydraConfig.get().overrides.task)
    table: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        plan = plan_variant(from_table(table), lines)
        run_shown(plan, Session.join(Path(os.environ[SESSION_VARIABLE])))
    except PocketOptError as error:
        errors.print(f"error: {error}", markup=False)
