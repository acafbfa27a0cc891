"""The Python API: plan, optimize, load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.config.loading import load as load_config
from pocket_opt.planner import Plan, plan_variant

if TYPE_CHECKING:
    from pocket_opt.bundle.layout import Bundle
    from pocket_opt.bundle.loaded import LoadedModel
    from pocket_opt.engine import Observer


def plan(
    recipe: str = "pocket_whisper",
    target: str = "cpu",
    level: str = "HIGH",
    overrides: Sequence[str] = (),
) -> Plan:
    """The graph of passes of one variant, with keys, without loading a model or touching the network.

    Args:
        recipe: name of a recipe or path of a recipe file.
        overrides: further settings in the command line's spelling, e.g. `["decoder=basic"]`.

    Raises:
        UserError: anything in the inputs that cannot be carried out.
    """
    lines = [f"recipe={recipe}", f"target={target}", f"level={level}", *overrides]
    return plan_variant(load_config(lines), lines)


def optimize(
    recipe: str = "pocket_whisper",
    target: str = "cpu",
    level: str = "HIGH",
    overrides: Sequence[str] = (),
    *,
    observer: Observer | None = None,
) -> Bundle:
    """Make, measure and bundle one variant, and record it in MLflow unless `tracking=none` is among the overrides.

    Args:
        observer: hears of every node as it goes.

    Raises:
        UserError: before any work, as `plan`.
        PocketOptError: a node failed.
    """
    from pocket_opt.sessions import optimize_plan

    return optimize_plan(plan(recipe, target, level, overrides), observer)


def load(path: str | Path) -> LoadedModel:
    """Open a bundle for transcription; see `LoadedModel.transcribe`.

    Raises:
        UserError: `path` holds no bundle.
    """
    from pocket_opt.bundle.loaded import LoadedModel

    return LoadedModel(Path(path))
