from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime
import pytest
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from pocket_opt.models.whisper.checkpoint import WhisperDims
from pocket_opt.models.whisper.mel_graph import build_mel, mel_edges
from pocket_opt.onnx_graphs.writing import save_model

RATE = 16_000


def dims(mels: int, window_s: int) -> WhisperDims:
    return WhisperDims(4, 1, 1, 1, 1, 4, 4, mels, 300, 50 * window_s, 8)


@cache
def mel_file(mels: int, window_s: int) -> Path:
    path = Path(mkdtemp(prefix="mel-")) / "mel.onnx"
    save_model(build_mel(dims(mels, window_s)), path)
    return path


@cache
def session(mels: int, window_s: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(mel_file(mels, window_s))


def clips(window_s: int) -> dict[str, np.ndarray]:
    random, full = np.random.default_rng(0), RATE * window_s
    time = np.arange(full) / RATE
    swept = np.sin(2 * np.pi * (100 + 300 * time / window_s) * time)
    return {
        "one_sample": np.ones(1),
        "short": random.standard_normal(7_777) * 0.1,
        "full": random.standard_normal(full) * 0.1 * np.interp(time, [0, 1, window_s], [0.001, 1, 0.2]),
        "too_long": random.standard_normal(full + 5_000) * 0.1,
        "silent": np.zeros(RATE),
        "loud": np.clip(random.standard_normal(2 * RATE) * 3, -1, 1),
        "tone": np.sin(2 * np.pi * 440 * time),
        "sweep": swept * 0.5,
    }


ALL = ("one_sample", "short", "full", "too_long", "silent", "loud", "tone", "sweep")
LONG = ("short", "full", "too_long", "sweep")


@pytest.mark.parametrize(
    ("mels", "window_s", "names"), [(80, 4, ALL), (128, 4, ALL), (80, 30, LONG), (128, 30, LONG)]
)
def test_features_are_those_of_the_extractor(mels: int, window_s: int, names: tuple[str, ...]) -> None:
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=window_s)
    for name in names:
        audio = clips(window_s)[name].astype(np.float32)
        expected = extractor(audio, sampling_rate=RATE, return_tensors="np").input_features
        found = session(mels, window_s).run(None, {"audio": audio[None]})[0]
        assert found.shape == expected.shape == (1, mels, 100 * window_s), name
        assert np.abs(found - expected).max() < 1e-4, name


def test_each_row_of_a_batch_has_its_own_range() -> None:
    loud, quiet, silent = (scale * clips(4)["full"].astype(np.float32) for scale in (1.0, 1e-3, 0.0))
    batch = session(80, 4).run(None, {"audio": np.stack([loud, quiet, silent])})[0]
    for row, audio in zip(batch, (loud, quiet, silent), strict=True):
        alone = session(80, 4).run(None, {"audio": audio[None]})[0][0]
        assert np.abs(row - alone).max() < 1e-5


def test_no_audio_is_silence() -> None:
    nothing = session(80, 4).run(None, {"audio": np.zeros((1, 0), np.float32)})[0]
    silence = session(80, 4).run(None, {"audio": np.zeros((1, 99), np.float32)})[0]
    assert np.array_equal(nothing, silence)


@pytest.mark.parametrize("mels", [80, 128])
def test_filter_edges_give_the_filters_of_transformers(mels: int) -> None:
    edges, bins = mel_edges(mels), np.arange(201) * 40.0
    up = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    found = np.maximum(0, np.minimum(up, down)) * 2 / (edges[2:] - edges[:-2])
    expected = mel_filter_bank(201, mels, 0, 8_000, RATE, norm="slaney", mel_scale="slaney")
    assert np.abs(found - expected).max() < 1e-12


def test_the_file_is_small_and_its_constants_are_folded_at_load(tmp_path: Path) -> None:
    assert mel_file(80, 30).stat().st_size < 12_000
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(mel_file(80, 30), options)
    left = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert len(left) <= 20
    assert not {"Range", "Mod", "Gather", "Cast"} & set(left)
