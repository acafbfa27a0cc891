"""Moments of layer inputs: those of the clips, whatever the memory allows at a time."""

from __future__ import annotations

import numpy as np
import pytest
from exported_whisper import exported, graph

from pocket_opt.onnx_graphs import moments
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.files import linear_layers
from pocket_opt.onnx_graphs.inputs import random_inputs


def sources() -> list[str]:
    return [str(node.inputs[0].name) for node in linear_layers(graph(exported(), "encoder"))]


def test_the_moment_of_the_last_hidden_states_is_that_of_the_encoders_output() -> None:
    feeds = [random_inputs(exported().components["encoder"], seed) for seed in (1, 2)]
    session = open_session(exported(), "encoder")
    rows = np.concatenate([session.run(["encoder_hidden"], one)[0][0] for one in feeds])
    found = dict(moments.each_moment(exported(), "encoder", ["encoder_hidden"], lambda: feeds))
    assert np.allclose(found["encoder_hidden"], rows.T @ rows, rtol=1e-4)


def test_small_memory_takes_more_rounds_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds, rounds = [random_inputs(exported().components["encoder"])], []

    def listen() -> list[dict[str, np.ndarray]]:
        rounds.append(1)
        return feeds

    whole = dict(moments.each_moment(exported(), "encoder", sources(), listen))
    assert len(rounds) == 1
    monkeypatch.setattr(moments, "MEMORY", 40_000)
    parts = dict(moments.each_moment(exported(), "encoder", sources(), listen))
    assert len(rounds) > 4
    assert parts.keys() == whole.keys() == set(sources())
    assert all(np.allclose(parts[name], whole[name], rtol=1e-4) for name in whole)
