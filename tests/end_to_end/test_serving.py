"""A real `mlflow models serve` on a bundle answers requests over HTTP, with a path and with the recording itself."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import soundfile
from layout_fixtures import clips, optimized
from runner_fixtures import SAMPLE_RATE
from variant_fixtures import make

from pocket_opt.bundle import write_bundle
from pocket_opt.models.whisper.runner.audio import read_audio
from pocket_opt.models.whisper.runner.transcript import DecodeOptions
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.tracking_model import save_model

pytestmark = pytest.mark.nightly
START_S = 180


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def ask(address: str, table: dict[str, object]) -> list[str]:
    body = json.dumps(table).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[str] = json.load(answer)["predictions"]
        return found


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=5)
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"no server at {address}: {log.read_text()[-2000:]}")


def test_the_server_answers(tmp_path: Path) -> None:
    made = make(tmp_path / "fake", "HIGH", weights="random")
    bundle = write_bundle(made.variant, optimized("HIGH"), tmp_path / "bundle")
    save_model(tmp_path / "model", bundle.path, bundle.manifest)
    recording, port, log = tmp_path / "recording.wav", free_port(), tmp_path / "log"
    soundfile.write(recording, clips()[0], SAMPLE_RATE)
    samples = read_audio(recording, SAMPLE_RATE)
    [ours] = Whisper(bundle.path).transcribe([samples], DecodeOptions("en"))
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(tmp_path / "model")]
    command += ["-p", str(port), "--env-manager", "local", "--workers", "1"]
    with log.open("wb") as output:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True, cwd=tmp_path
        )
        try:
            wait_for(address, server, log)
            params = {"language": "en"}
            assert ask(address, {"inputs": [str(recording)], "params": params}) == [ours.text]
            inline = f"data:audio/wav;base64,{base64.b64encode(recording.read_bytes()).decode()}"
            assert ask(address, {"inputs": [inline, inline], "params": params}) == [ours.text] * 2
            with pytest.raises(urllib.error.HTTPError):
                ask(address, {"inputs": [str(tmp_path / "missing.wav")]})
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)
