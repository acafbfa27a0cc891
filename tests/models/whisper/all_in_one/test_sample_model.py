"""The sample model says the same through one graph as through the host loop, at every level that differs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from exported_whisper import run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.models.whisper.runner.all_in_one import AllInOne
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.shipped import locate

SECONDS = 4
RATE = 16_000
STEPS = {
    "BASIC": (),
    "HIGH": (
        ("dynamic_int8", {"components": ("encoder",)}),
        ("weight_only", {"components": ("decoder",)}),
        ("quantize_embedding", {}),
        ("store_fp16", {}),
    ),
}


@cache
def pair(level: str, beams: int = 1) -> tuple[Whisper, AllInOne]:
    root = Path(mkdtemp(prefix="all-in-one-"))
    (root / "source").mkdir()
    step = load_pass("load_source")
    teacher = str(locate("sample:teacher", holding="config.json", where="-"))
    model: Artifact = execute(step, {}, step.Params(path=teacher), root / "source").artifact
    for name, params in (("export_onnx", {}), ("fuse", {}), *STEPS[level]):
        model = run_pass(name, model, root / name, **params).artifact
    one = run_pass("compose_all_in_one", model, root / "one", beams=beams).artifact
    return Whisper(model.root), AllInOne(one.root)


def compare(host: Whisper, graph: AllInOne, clips: list, options: DecodeOptions) -> None:
    audio = [clip.samples(RATE)[: SECONDS * RATE] for clip in clips]
    expected, found = host.transcribe(audio, options), graph.transcribe(audio, options)
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.segments for one in found] == [one.segments for one in expected]


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("beams", [1, 5])
def test_a_batch_of_both_languages(timestamps: bool, beams: int) -> None:
    options = DecodeOptions(timestamps=timestamps, beams=beams)
    clips = list(Dataset.open("sample:evaluation", where="-"))
    chosen = [next(clip for clip in clips if clip.language == code) for code in ("de", "en")]
    compare(*pair("HIGH", beams), [*chosen, clips[-1]], options)


@pytest.mark.nightly
@pytest.mark.parametrize("level", STEPS)
@pytest.mark.parametrize("beams", [1, 5])
def test_all_clips(level: str, beams: int) -> None:
    clips = list(Dataset.open("sample:evaluation", where="-"))
    host, graph = pair(level, beams)
    for begin in range(0, len(clips), 8):
        compare(host, graph, clips[begin : begin + 8], DecodeOptions(beams=beams))
