"""Bundles of a small random model that really runs, with the hypotheses that it gives on a few shipped clips."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from exported_whisper import exported
from variant_fixtures import DECODING, make, node
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.bundle import Bundle, write_bundle
from pocket_opt.data.dataset import Dataset
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

CLIPS = 6
SAMPLE = "sample:evaluation"


@cache
def onnx_bundle() -> Bundle:
    """Level BASIC with measured quality; must not be changed."""
    return measured_bundle(exported(), "BASIC")


@cache
def source_bundle() -> Bundle:
    """Level NONE, not measured; must not be changed."""
    root = Path(mkdtemp(prefix="source-bundle-"))
    made = make(root / "fake", "NONE", weights="random")
    return write_bundle(made.variant, tiny_checkpoint(root / "model"), root / "NONE")


def measured_bundle(model: Artifact, level: str) -> Bundle:
    root = Path(mkdtemp(prefix="real-bundle-"))
    params = {
        **DECODING,
        "data_digest": Dataset.open(SAMPLE).digest(),
        "limit": CLIPS,
        "batch_size": 2,
        "max_new_tokens": 8,
    }
    quality = measure(model, root / "quality", params)
    results = {"quality": json.loads(quality.path("result").read_text())}
    made = make(root / "fake", level)
    nodes = (*made.variant.nodes[:2], node("quality", level, "measure", **params))
    variant = replace(made.variant, measurements=results, nodes=nodes, budget={})
    return write_bundle(variant, model, root / level, measurements={"quality": quality})


def measure(model: Artifact, workdir: Path, params: dict[str, object]) -> Artifact:
    workdir.mkdir()
    step = load_pass("quality")
    filled = step.Params(**{**params, "data_path": SAMPLE})
    return execute(step, {"model": model}, filled, workdir).artifact
