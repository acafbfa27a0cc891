"""Environments of the peers: one virtual environment each, from pinned requirements, made by `--install` only."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
DONE = "installed.txt"


def python_of(environment: str, place: Path) -> Path | None:
    """The interpreter of an installed environment ("" is this one); None if it is not installed."""
    if not environment:
        return Path(sys.executable)
    python = place / environment / "bin" / "python"
    return python if python.exists() and (place / environment / DONE).is_file() else None


def install(environment: str, place: Path) -> None:
    """Make the environment unless it is there with the same pins; CalledProcessError if pip fails.

    The list is complete, so nothing is resolved: what a package asks for beyond it (CUDA for torch, torchvision) is
    left out on purpose. Hence pip must find torch for the CPU: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
    """
    requirements, root = REQUIREMENTS / f"{environment}.txt", place / environment
    pins, record = requirements.read_text(encoding="utf-8"), root / DONE
    if record.is_file() and record.read_text(encoding="utf-8") == pins:
        return
    venv.create(root, clear=True, with_pip=True)
    command = [
        str(root / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "-r",
        str(requirements),
    ]
    subprocess.run(command, check=True)
    record.write_text(pins, encoding="utf-8")
