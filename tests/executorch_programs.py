"""Small Whisper models as ExecuTorch programs, each lowered once for all tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from exported_whisper import run_pass
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.passes.base import Outcome

SHAPE = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 64, "target_positions": 32}


@cache
def checkpoint() -> Artifact:
    """One layer each, so that tracing is quick."""
    folder = Path(mkdtemp(prefix="executorch-source-"))
    return tiny_checkpoint(folder, **SHAPE)


def lowered(weights: str = "float32") -> Outcome:
    """The small random model as a program; its files are read-only, as in a store."""
    return _lowered(weights)


@cache
def _lowered(weights: str) -> Outcome:
    folder = Path(mkdtemp(prefix="executorch-"))
    outcome = run_pass("export_executorch", checkpoint(), folder, weights=weights)
    for part in outcome.artifact.components.values():
        for name in part.files:
            (outcome.artifact.root / name).chmod(0o444)
    return outcome
