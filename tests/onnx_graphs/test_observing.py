"""Observing: what is told of values is what they are, and the graph's own answers stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from exported_whisper import exported

from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.inputs import random_inputs
from pocket_opt.onnx_graphs.observing import Observed

LOGITS, SCORES = "logits", "decoder.layers.0.self_attn/Add_output"


def test_extremes_and_sample_are_those_of_the_values() -> None:
    feeds = random_inputs(exported("static").components["decoder"])
    feeds["cache_mask"] = np.zeros_like(feeds["cache_mask"])
    feeds["cache_mask"][..., 5:] = -60_000
    session = Observed(exported("static"), "decoder", [LOGITS, SCORES, "past_key_0"], {SCORES})
    names = [port.name for port in session.get_outputs()]
    expected = open_session(exported("static"), "decoder").run(names, feeds)
    for old, new in zip(expected, session.run(names, feeds), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)
    logits, scores, past = (session.spreads[name] for name in (LOGITS, SCORES, "past_key_0"))
    assert (logits.low, logits.high) == pytest.approx((expected[0].min(), expected[0].max()), abs=1e-5)
    assert logits.counts.sum() == expected[0].size
    assert (past.low, past.high) == (feeds["past_key_0"].min(), feeds["past_key_0"].max())
    assert scores.masked
    assert -100 < scores.low < scores.high < 100


def test_only_some_calls_are_looked_at() -> None:
    feeds = random_inputs(exported("static").components["decoder"])
    session = Observed(exported("static"), "decoder", [LOGITS], set(), every=3)
    for _ in range(5):
        (logits,) = session.run(["logits"], feeds)
    assert (session.calls, session.looked) == (5, 2)
    assert session.spreads[LOGITS].counts.sum() == 2 * logits.size
