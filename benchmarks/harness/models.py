"""One checkpoint for all: ours are built by the public API, peers convert the source model that level NONE carries."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pocket_opt
from pocket_opt.evaluation.forced import synthetic_audio


def build(recipe: str, target: str, level: str, overrides: Sequence[str], output: Path) -> Path:
    """The bundle of a variant, built without measuring or tracking it; quick when the store has it.

    Random weights unless `overrides` say otherwise.
    """
    given = ["tracking=none", "recipe.model.weights=random", f"output_dir={output}", *overrides]
    planned = pocket_opt.plan(recipe, target, level, given)
    quiet = [f"nodes.{node.name}.enabled=false" for node in planned.graph if node.kind == "measure"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pocket_opt.optimize(recipe, target, level, [*given, *quiet]).path


def metadata(bundle: Path) -> dict[str, Any]:
    """Dimensions and further facts of a bundle's model."""
    table: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return dict(table["metadata"])


def identity(bundle: Path) -> str:
    """A name for the model of a bundle that no other model has."""
    table = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return f"{table['recipe']}-{table['identities']['build'][:12]}"


def write_audio(dims: dict[str, Any], file: Path) -> None:
    """One window of synthetic speech-like noise, as the package's own measurements take it."""
    np.save(file, synthetic_audio(dims["window_s"], dims["sample_rate"]))
