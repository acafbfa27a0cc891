"""cpu_best by the real command: a branch that breaks the budget is not chosen, however fast; a second run makes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_command import Command

pytestmark = pytest.mark.nightly
NOT_NEEDED = ("memory", "latency", "profile", "parity", "baseline.latency", "baseline.memory")
WRECKED = (
    "~nodes.cpu_encoder_int8",
    "nodes.cpu_weights.params.components=[encoder,decoder]",
    "nodes.cpu_weights.params.bits=2",
    "nodes.cpu_weights.params.block_size=256",
)
"""Two bits a weight: nothing that ONNX Runtime's model says is right."""


def run(command: Command, *words: str) -> tuple[dict[str, Any], str]:
    """The manifest of the bundle, and what was printed."""
    given = [
        "recipe=pocket_whisper",
        "target=cpu_best",
        "level=HIGH",
        f"output_dir={command.output}",
        "tracking=none",
    ]
    given += [*(f"~nodes.{name}" for name in NOT_NEEDED), "data.evaluation.limit=6", *words]
    done = subprocess.run(
        [sys.executable, "-m", "pocket_opt", *given],
        capture_output=True,
        text=True,
        env=command.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [bundle] = command.bundles()
    return json.loads((bundle / "manifest.json").read_text()), done.stdout


def test_the_branch_within_the_budget_is_the_result(own_home: Path, quick_path: Path) -> None:
    command = Command(Path("unused"), own_home, quick_path / "outputs")
    manifest, printed = run(command, *WRECKED)
    chosen = manifest["metadata"]["chosen"]
    assert chosen["runtime"] == manifest["metadata"]["runtime"] == "openvino"
    verdicts = {name: found["verdict"] for name, found in chosen["budget"].items()}
    assert verdicts == {"onnxruntime": "over_budget", "openvino": "within"}
    assert "outside the budget (wer_delta" in chosen["why"]
    assert "openvino was chosen:" in printed
    assert manifest["budget"]["verdict"] == "within"
    assert manifest["metrics"]["quality"]["wer"] == manifest["metrics"]["openvino_quality"]["wer"]
    again, printed = run(command, *WRECKED)
    assert again["identities"] == manifest["identities"]
    assert "nodes were cached" in printed
