"""Bundles in the layout of a client: our runner runs them, the card says how the client does, the docs say the same."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from layout_fixtures import clips, laid_out, optimized
from runner_fixtures import SAMPLE_RATE
from variant_fixtures import make

from pocket_opt.bundle import Bundle, write_bundle
from pocket_opt.bundle.clients import CLIENTS
from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.config.reference import reference
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper

DOCS = Path(__file__).resolve().parents[2] / "docs" / "clients.md"


def bundle(root: Path, layout: str) -> Bundle:
    made = make(root / "fake", "HIGH", weights="random")
    return write_bundle(made.variant, laid_out(layout, "HIGH"), root / layout)


@pytest.mark.parametrize("layout", ["optimum", "transformers_js", "sherpa_onnx"])
def test_our_runner_runs_the_files_of_the_client(layout: str, tmp_path: Path) -> None:
    made, recording = bundle(tmp_path, layout), tmp_path / "recording.wav"
    soundfile.write(recording, clips()[0], SAMPLE_RATE)
    command = [sys.executable, str(made.path / "run.py"), str(recording), "--language", "en", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    samples = read_audio(recording, SAMPLE_RATE)
    [ours] = Whisper(optimized("HIGH").root, threads=1).transcribe([samples], DecodeOptions("en"))
    assert json.loads(done.stdout)["tokens"] == list(ours.tokens)
    assert len(set(ours.tokens)) >= 20
    findings = {finding.check: finding for finding in validate_bundle(made.path)}
    assert findings["files"].ok
    assert findings["runs"].ok


@pytest.mark.parametrize("layout", ["optimum", "sherpa_onnx"])
def test_the_card_says_how_the_client_runs_it(layout: str, tmp_path: Path) -> None:
    text = (bundle(tmp_path, layout).path / "README.md").read_text()
    client = CLIENTS[layout]
    assert f"{client.name} loads the directory as it is." in text
    assert f"```sh\n{client.install}\n```" in text
    assert f"```{client.language}\n{client.lines}```" in text
    assert "python run.py recording.wav" in text


def test_settings_of_a_client_are_no_part_of_the_model(tmp_path: Path) -> None:
    made = bundle(tmp_path, "sherpa_onnx")
    files = {row["path"] for row in made.manifest["files"]}
    assert {"tokens.txt", "encoder.onnx", "decoder.onnx", "mel.onnx", "run.py"} <= files
    parts = ("mel", "encoder", "decoder")
    size = sum((made.path / f"{part}.onnx").stat().st_size for part in parts)
    assert made.manifest["metrics"]["size"]["total_mb"]["value"] == pytest.approx(size / 1e6)


def test_every_layout_has_its_client_and_its_page() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for layout, client in CLIENTS.items():
        assert f"`bundle.layout={layout}`" in text
        assert f"```{client.language}\n{client.lines}```" in text
        assert client.install in text
        assert f"'{layout}'" in reference()


def test_the_lines_are_programs() -> None:
    for client in CLIENTS.values():
        if client.language == "python":
            ast.parse(client.lines)
