"""Observing: what is told of values is what they are, and the graph's own answers stay the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


CHAIN = """
import resource, sys
import numpy as np
from pathlib import Path
from pocket_opt.artifact import Artifact, Component
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.onnx_graphs.observing import Observed
from pocket_opt.onnx_graphs.writing import save_model
import onnx_ir as ir

graph, shape = GraphBuilder("chain"), (2_000_000,)
x = graph.input("x", ir.DataType.FLOAT, shape)
for _ in range(40):
    x = graph.op("Gelu", x)
graph.output(x, "y", shape)
model, folder = graph.build(), Path(sys.argv[1])
names = [value.name for node in model.graph for value in node.outputs]
save_model(model, folder / "chain.onnx")
artifact = Artifact(folder, {"chain": Component("onnx", ("chain.onnx",))}, {})
session = Observed(artifact, "chain", names, set())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(["y"], {"x": np.ones(shape, np.float32)})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000, session.spreads[names[0]].high)
"""


def test_values_are_freed_before_the_next_ones_are_computed(tmp_path: Path) -> None:
    """A chain of 40 values of 8 MB: looked at one after the other they take a few of them, not 320 MB."""
    done = subprocess.run(
        [sys.executable, "-c", CHAIN, str(tmp_path)], capture_output=True, text=True, check=True
    )
    grown_mb, high = map(float, done.stdout.split())
    assert grown_mb < 100
    assert high == pytest.approx(0.8413, abs=1e-3)
