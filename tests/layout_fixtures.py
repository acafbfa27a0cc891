"""Small models in the layouts of other people's software, and the sounds and tokens that they are compared by."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from exported_whisper import run_pass
from runner_fixtures import SAMPLE_RATE, sound
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.transcript import DecodeOptions, Transcript
from pocket_opt.models.whisper.runner.whisper import Whisper

LEVELS = ("BASIC", "MEDIUM", "HIGH", "EXTREME")
CHAINS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "BASIC": [],
    "MEDIUM": [("store_fp16", {})],
    "HIGH": [
        ("dynamic_int8", {"components": ("encoder",)}),
        ("weight_only", {"components": ("decoder",)}),
        ("quantize_embedding", {}),
        ("store_fp16", {}),
    ],
    "EXTREME": [
        ("dynamic_int8", {"components": ("encoder",)}),
        ("weight_only", {"components": ("decoder",), "bits": 4, "symmetric": False}),
        ("quantize_embedding", {"bits": 4}),
        ("store_fp16", {}),
    ],
}
"""What the target `cpu` does at each level after export and fusion."""


@cache
def optimized(level: str, window_s: int = 4, *, fused: bool = True) -> Artifact:
    """A small random model at `level`."""
    root = Path(mkdtemp(prefix="optimized-"))
    model = tiny_checkpoint(root / "source", window_s=window_s, target_positions=64, decoder_layers=2)
    steps = [("export_onnx", {}), *([("fuse", {})] if fused else []), *CHAINS[level]]
    for number, (name, params) in enumerate(steps):
        model = run_pass(name, model, root / str(number), **params).artifact
    return model


@cache
def laid_out(layout: str, level: str = "BASIC", window_s: int = 4) -> Artifact:
    """The same model in the layout `layout`."""
    return run_pass(f"layout_{layout}", optimized(level, window_s), Path(mkdtemp(prefix="layout-"))).artifact


def clips() -> list[np.ndarray]:
    """Sounds of several lengths."""
    return [sound(3.1, 1), sound(1.4, 2), np.zeros(SAMPLE_RATE, np.float32)]


def heard(artifact: Artifact, *, timestamps: bool = False) -> list[Transcript]:
    """What the runner hears in the clips, calling the graphs of a layout as its client does."""
    model = Whisper(artifact.root, threads=1)
    return model.transcribe(clips(), DecodeOptions("en", "transcribe", timestamps, 30))


def tokens(artifact: Artifact) -> list[tuple[int, ...]]:
    """The tokens of each clip."""
    return [clip.tokens for clip in heard(artifact)]


def names(artifact: Artifact, component: str) -> tuple[list[str], list[str]]:
    """Inputs and outputs of a graph."""
    part = artifact.components[component]
    return [port.name for port in part.inputs], [port.name for port in part.outputs]
