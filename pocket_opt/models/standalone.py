"""The stand-alone program of a model family: the files that go into a bundle beside the model, and onto a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocket_opt.errors import PocketOptError

RUNNER = "run.py"
RUNNER_MODULES = "runner"


def runner_files(metadata: Mapping[str, Any]) -> dict[str, Path]:
    """The program for an artifact with this metadata: path in the bundle -> where it lies here.

    Raises:
        PocketOptError: its family has none.
    """
    family = Path(__file__).resolve().parent / str(metadata.get("family"))
    if not (family / RUNNER).is_file():
        raise PocketOptError(
            f"there is no stand-alone runner for the model family '{metadata.get('family')}'",
            where=str(family / RUNNER),
            fix="add it, and its modules in the folder runner beside it",
        )
    modules = sorted((family / RUNNER_MODULES).glob("*.py"))
    return {RUNNER: family / RUNNER} | {f"{RUNNER_MODULES}/{path.name}": path for path in modules}
