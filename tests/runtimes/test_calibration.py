"""Calibration: the graphs take what the model itself heard and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported_whisper import exported
from planned_inputs import write_clips, write_slow_clip

from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import UserError
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.runtimes.calibration import Calibration, kept_mb
from pocket_opt.worker import silent


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_the_decoder_predicts_the_tokens_that_it_is_fed(decoder: str) -> None:
    told: list[int] = []
    clips = Dataset.open("sample:calibration").limit(2)
    calibration = Calibration.hear(exported(decoder), clips, lambda done, *_: told.append(done))
    assert told == [1, 2]
    session = open_session(exported(decoder), "decoder")
    for one, inputs in zip(calibration.heard, calibration.feeds("decoder")(), strict=True):
        logits = session.run(["logits"], inputs)[0]
        said = one.forced.tokens[0, one.forced.prompt :]
        predicted = logits[0, one.forced.prompt - 1 : -1].argmax(-1)
        assert np.mean(predicted == said) > 0.9  # rules forbid some tokens
    assert len(list(calibration.feeds("encoder")())) == 2


def test_graphs_of_static_shapes_are_fed_what_they_are_in_use() -> None:
    model = exported("static", 1, 1)
    calibration = Calibration.hear(model, Dataset.open("sample:calibration").limit(1), silent)
    [one] = calibration.heard
    choices = {}
    for name in ("prefill", "decoder"):
        session = open_session(model, name)
        logits = [session.run(["logits"], inputs)[0][0] for inputs in calibration.feeds(name)()]
        choices[name] = [row.argmax(-1) for row in logits]
    [prompted], said = choices["prefill"], one.forced.tokens[0, one.forced.prompt :]
    predicted = np.concatenate(
        [prompted[one.forced.prompt - 1 : one.forced.prompt], *choices["decoder"][:-1]]
    )
    assert np.mean(predicted == said) > 0.9  # rules forbid some tokens


def test_a_clip_sampled_too_slowly_is_refused_before_any_is_heard(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 2)
    write_slow_clip(clips / "1.wav")
    with pytest.raises(UserError, match=r"1\.wav was sampled at 4000 Hz"):
        Calibration.hear(exported(), Dataset.open(str(clips)), lambda *_: pytest.fail("one was heard"))


def test_what_is_kept_on_disk_is_within_what_was_announced_and_serves_as_well(tmp_path: Path) -> None:
    model, clips = exported("static", 1, 1), Dataset.open("sample:calibration").limit(2)
    kept = Calibration.hear(model, clips, silent, keep=tmp_path)
    features = 4 * sum(one.features.size for one in kept.heard)
    assert features < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1e6 * kept_mb(model, 2)
    for one, other in zip(kept.heard, Calibration.hear(model, clips, silent).heard, strict=True):
        assert isinstance(one.features, np.memmap)
        assert np.array_equal(one.features, other.features)
        assert np.array_equal(one.forced.tokens, other.forced.tokens)
