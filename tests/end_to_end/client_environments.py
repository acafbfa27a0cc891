"""Environments of the real clients, made once below POCKET_OPT_HOME/toolchains; a test is skipped where one cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_opt.home import home

ROOM = home() / "toolchains"
"""Looked up when tests are collected: each test has a home of its own."""
DONE = "installed"
PIP = {
    "optimum": [
        "torch==2.13.0",
        "optimum-onnx[onnxruntime]==0.1.0",
        "optimum==2.1.0",
        "transformers==4.57.6",
        "soundfile",
    ],
    "sherpa_onnx": ["sherpa-onnx==2.0.1", "numpy", "soundfile", "kaldi-native-fbank==1.23.0"],
    "genai": ["onnxruntime-genai==0.18.0", "numpy"],
}
NPM = {"transformers_js": "@huggingface/transformers@4.3.1"}
WITHOUT_CUDA = {"ONNXRUNTIME_NODE_INSTALL": "skip"}
"""The Node package brings its CPU library and would download another one for CUDA."""


def program(client: str) -> list[str]:
    """What runs a script of `client`; for Node the script must lie in `folder(client)`."""
    place = folder(client)
    if not (place / DONE).exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _install(client, place)
        (place / DONE).touch()
    return ["node"] if client in NPM else [str(place / "bin" / "python")]


def folder(client: str) -> Path:
    """Where the environment of `client` is, or would be."""
    pins = [NPM[client]] if client in NPM else PIP[client]
    return ROOM / f"client-{client}-{hashlib.sha256(' '.join(pins).encode()).hexdigest()[:12]}"


def _install(client: str, place: Path) -> None:
    if client in NPM:
        if not (shutil.which("node") and shutil.which("npm")):
            pytest.skip("Node and npm are not installed")
        _run(["npm", "install", "--prefix", str(place), NPM[client]], client)
        return
    _run([sys.executable, "-m", "venv", str(place)], client)
    first, *rest = PIP[client]
    for packages in ([first], rest):  # torch for the CPU comes first, or its CUDA packages do
        _run([str(place / "bin" / "pip"), "install", "-q", *packages], client)


def _run(command: list[str], client: str) -> None:
    environment = {**os.environ, **WITHOUT_CUDA}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        pytest.skip(f"the client {client} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
