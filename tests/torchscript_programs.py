"""Small Whisper models as TorchScript programs, each written once for all tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from executorch_programs import checkpoint
from exported_whisper import run_pass

from pocket_opt.passes.base import Outcome


def written(weights: str = "float32", *, loop: bool = False) -> Outcome:
    """The small random model as a program; its files are read-only, as in a store."""
    return _written(weights, loop)


@cache
def _written(weights: str, loop: bool) -> Outcome:
    folder = Path(mkdtemp(prefix="torchscript-"))
    outcome = run_pass("export_torchscript", checkpoint(), folder, weights=weights, loop=loop)
    outcome.artifact.save()
    for path in folder.iterdir():
        path.chmod(0o444)
    return outcome
