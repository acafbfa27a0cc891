"""One graph of models that differ: a cross-attention cache in 8 bits, 128 mels and the widest vocabulary, a second file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from exported_whisper import exported, run_pass
from runner_fixtures import sound

from pocket_opt.artifact import Artifact
from pocket_opt.models.whisper.runner.all_in_one import AllInOne
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.onnx_graphs import files
from pocket_opt.onnx_graphs.writing import save_model


def compare(model: Artifact, one: Artifact, seconds: float) -> None:
    """Both say the same at first; random weights have near ties, which rounding decides later."""
    audio = [sound(seconds, 0), sound(seconds / 2, 1)]
    host, graph = Whisper(model.save().root, threads=1), AllInOne(one.root, threads=1)
    for beams in (1, 2):
        options = DecodeOptions("en", max_new_tokens=6, beams=beams)
        expected, found = host.transcribe(audio, options), graph.transcribe(audio, options)
        assert [heard.tokens for heard in found] == [heard.tokens for heard in expected]
        for heard, wanted in zip(found, expected, strict=True):
            assert heard.avg_logprob == pytest.approx(wanted.avg_logprob, abs=0.02)


@pytest.mark.parametrize("dtype", ["int8", "fp16"])
def test_a_small_cross_cache_goes_through_the_loop(dtype: str, tmp_path: Path) -> None:
    fused = run_pass("fuse", exported(), tmp_path / "fused").artifact
    small = run_pass("quantize_cross_cache", fused, tmp_path / "small", dtype=dtype).artifact
    compare(small, run_pass("compose_all_in_one", small, tmp_path / "one", beams=2).artifact, 3)


def test_shapes_of_large_models(tmp_path: Path) -> None:
    shape = {"d_model": 80, "heads": 5, "encoder_layers": 3, "decoder_layers": 2, "mels": 128, "vocab": 51866}
    empty = Artifact(tmp_path / "empty", {}, {})
    source = run_pass("random_weights", empty, tmp_path / "source", source_positions=100, **shape).artifact
    model = run_pass("export_onnx", source, tmp_path / "onnx").artifact
    model = run_pass("fuse", model, tmp_path / "fused").artifact
    one = run_pass("compose_all_in_one", model, tmp_path / "one", beams=2).artifact
    compare(model, one, 2)
    assert len(AllInOne(one.root).vocabulary.languages) == 100


def test_weights_beyond_two_gigabytes_lie_in_a_second_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "save_model", partial(save_model, external_over=100_000))
    one = run_pass("compose_all_in_one", exported(), tmp_path / "one", beams=2).artifact
    assert [Path(name).name for name in one.components["all_in_one"].files] == [
        "all_in_one.onnx",
        "all_in_one.onnx.data",
    ]
    assert one.path("all_in_one").stat().st_size < 400_000
    compare(exported(), one, 3)
    assert np.isfinite(AllInOne(one.root).transcribe([sound(1, 0)], DecodeOptions("de"))[0].avg_logprob or 0)
