"""A graph hears a file as the runner reads it: rates, channels, formats, tags; and says where it cannot."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import soundfile
from extensions_fixtures import needs_extensions
from runner_fixtures import sound

from pocket_opt.models.whisper.all_in_one.file_graph import build_file_audio
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.models.whisper.runner.audio import as_wave, read_audio, resample
from pocket_opt.models.whisper.runner.onnxruntime_backend import open_session

RATE, SECONDS = 16_000, 3
TOLERANCE = 2e-6
"""Filters are computed in 64 bits on both sides; products are summed in 32."""

pytestmark = needs_extensions


@cache
def session():
    graph = GraphBuilder("file")
    graph.output(build_file_audio(graph, RATE, SECONDS * RATE), "audio", (1, "samples"))
    model = ir.to_proto(graph.build()).SerializeToString()
    return open_session(model, {"extensions": "yes"}, 2)


def heard(data: bytes) -> np.ndarray:
    [[samples]] = session().run(None, {"audio_bytes": np.frombuffer(data, np.uint8)})
    return samples


def written(path: Path, rate: int, channels: int, seconds: float, **form: str) -> Path:
    wave = np.stack([resample(sound(seconds, kind), RATE, rate) for kind in range(channels)], axis=1)
    soundfile.write(path, 0.5 * wave, rate, **form)
    return path


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("ending", "form"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")])
def test_every_rate_in_use(rate: int, channels: int, ending: str, form: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"a.{ending}", rate, channels, 1.3, subtype=form)
    np.testing.assert_allclose(heard(path.read_bytes()), read_audio(path, RATE), atol=TOLERANCE)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("tag", [0, 10, 70_000])
def test_an_mp3_begins_where_the_audio_did(rate: int, channels: int, tag: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp3", rate, channels, 1.3)
    size = bytes([0, tag >> 14, tag >> 7 & 127, tag & 127])
    data = (b"ID3\x04\0\0" + size + bytes(tag) if tag else b"") + path.read_bytes()
    np.testing.assert_allclose(heard(data), read_audio(path, RATE), atol=1e-5)


def test_a_format_chunk_that_comes_late(tmp_path: Path) -> None:
    data = as_wave(sound(1, 0), 22_050).tobytes()
    late = data[:12] + b"JUNK" + (5000).to_bytes(4, "little") + bytes(5000) + data[12:]
    np.testing.assert_array_equal(heard(late), heard(data))


def test_no_more_than_a_window_is_made(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", 44_100, 2, 4.5)
    found = heard(path.read_bytes())
    assert len(found) == SECONDS * RATE
    np.testing.assert_allclose(found, read_audio(path, RATE)[: len(found)], atol=TOLERANCE)


def test_samples_pass_through_a_file_unchanged() -> None:
    samples = sound(2, 1)
    np.testing.assert_array_equal(heard(as_wave(samples, RATE).tobytes()), samples)


@pytest.mark.parametrize("data", [b"", b"RI", b"OggS" + bytes(500), b"\x89PNG" + bytes(500)])
def test_another_file_stops_the_run_at_a_node_that_says_so(data: bytes) -> None:
    with pytest.raises(Exception, match="neither_wav_nor_flac_nor_mp3"):
        heard(data)


def test_more_channels_and_odd_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="more_than_two_channels"):
        heard(written(tmp_path / "a.wav", RATE, 3, 0.2).read_bytes())
    with pytest.raises(Exception, match="unsupported_rate"):
        heard(written(tmp_path / "b.wav", 44_101, 1, 0.2).read_bytes())
