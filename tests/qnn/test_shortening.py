"""An encoder for few positions is the same encoder: what it says of a short input, the CPU and the NPU agree on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from compiled_whisper import ELITE, static
from exported_whisper import run_pass
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Component, Port
from pocket_opt.errors import PocketOptError
from pocket_opt.qnn.shortening import few_positions, shortened

POSITIONS = 16


def run(path: Path, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["encoder_hidden"], {"features": features})[0]


def test_ports_are_cut_and_nothing_else(tmp_path: Path) -> None:
    part = shortened(static().path("encoder"), tmp_path / "short.onnx", POSITIONS)
    whole = static().components["encoder"]
    assert part.inputs[0].shape == (1, 80, 2 * POSITIONS)
    assert [port.shape for port in part.outputs] == [
        tuple(POSITIONS if size == 200 else size for size in port.shape) for port in whole.outputs
    ]
    features = np.random.default_rng(0).standard_normal((1, 80, 2 * POSITIONS)).astype(np.float32)
    found = run(tmp_path / "short.onnx", features)
    assert found.shape == (1, POSITIONS, 64)
    source = tiny_checkpoint(tmp_path / "source", encoder_layers=1, decoder_layers=1)
    any_length = run_pass("export_onnx", source, tmp_path / "onnx", audio_context="auto").artifact
    assert np.abs(found - run(any_length.path("encoder"), features)).max() < 1e-5


@pytest.mark.parametrize(("frames", "positions"), [(3000, 28), (400, 72), (2 * 64, 64)])
def test_few_positions_leave_the_last_tile_as_it_is(frames: int, positions: int) -> None:
    part = Component("onnx", ("encoder.onnx",), inputs=(Port("features", "float32", (1, 80, frames)),))
    assert few_positions(part) == positions


def test_a_graph_without_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="no table of"):
        shortened(static().path("decoder"), tmp_path / "short.onnx", POSITIONS)


def test_a_large_encoder_is_checked_on_few_positions(tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn", static(), tmp_path, **ELITE, simulate_below=1e6)
    assert outcome.did["encoder"]["checked"] == "72 positions of the window; reloaded: equal to the last bit"
    assert outcome.did["encoder"]["cosine_to_cpu"] > 0.999
    assert outcome.did["decoder"]["checked"].startswith(("reloaded", "structure only"))
