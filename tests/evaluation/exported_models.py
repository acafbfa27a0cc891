"""Exports for tests of measurements."""

from __future__ import annotations

from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute


def exported_from(source: Artifact, workdir: Path, decoder: str = "kv_cache") -> Artifact:
    """The ONNX graphs of `source`, written into the new directory `workdir`."""
    workdir.mkdir()
    step = load_pass("export_onnx")
    return execute(step, {"model": source}, step.Params(decoder=decoder), workdir).artifact
