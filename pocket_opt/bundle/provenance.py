"""What a bundle was made with: versions of the tools and the commit of this package."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

TOOLS = (
    "pocket-opt",
    "executorch",
    "jiwer",
    "nncf",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-qnn",
    "onnxscript",
    "openvino",
    "safetensors",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "torchao",
    "transformers",
)
"""Distributions whose versions a manifest records where they are installed."""


def tool_versions() -> dict[str, str]:
    """Version of Python and of every installed distribution in `TOOLS`."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the checkout that this package is imported from; None if it is no checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command in `root`, or None if git is missing or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
