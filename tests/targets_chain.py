"""The build chain of a target at a level, run pass by pass on an artifact."""

from __future__ import annotations

from pathlib import Path

from exported_whisper import run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.config.loading import load
from pocket_opt.targets import load_target


def build(source: Artifact, level: str, workdir: Path, *, target: str = "cpu") -> Artifact:
    """What `target` makes of `source` at `level`; each pass checks what it made."""
    config = load([f"level={level}", f"target={target}"])
    artifact = source
    for step in load_target(target).steps(config.level.intents, config.decoder):
        if not step.off:
            artifact = run_pass(step.pass_name, artifact, workdir / step.name, **step.params).artifact
    return artifact
