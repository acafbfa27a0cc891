"""Calibration: the graphs take what the model itself heard and said."""

from __future__ import annotations

import numpy as np
import pytest
from exported_whisper import exported

from pocket_opt.data.dataset import Dataset
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.runtimes.calibration import Calibration


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
