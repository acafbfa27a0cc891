"""`python -m pocket_opt` in a process of its own, with only the nodes that a test needs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SWITCHED_OFF = (
    *("memory", "latency", "profile", "parity"),
    *("baseline.quality", "baseline.latency", "baseline.memory"),
)
QUICK = (*(f"~nodes.{name}" for name in SWITCHED_OFF), "decoding.max_new_tokens=8")
"""Only build, export and fuse the model, and decode the clips once."""


@dataclass(frozen=True)
class Command:
    """`python -m pocket_opt` with a home, an output directory and a recipe of its own."""

    recipe: Path
    home: Path
    output: Path

    def arguments(self, *words: str) -> list[str]:
        """The arguments of a run at BASIC with few nodes; `words` come last."""
        return [f"recipe={self.recipe}", "level=BASIC", f"output_dir={self.output}", *QUICK, *words]

    def environment(self) -> dict[str, str]:
        """What the process is given."""
        own = {"POCKET_OPT_HOME": str(self.home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return {**os.environ, **own}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the run and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "pocket_opt", *self.arguments(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def bundles(self) -> list[Path]:
        """Every bundle that lies in the output directory."""
        return sorted(path.parent for path in self.output.glob("*/*/*/manifest.json"))
