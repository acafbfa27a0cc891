"""A tiny random model in three forms (source, exported, wrecked) and a tiny data set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from exported_models import exported_from
from safetensors.numpy import load_file, save_file
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

SAMPLE_RATE = 16_000
CLIPS = (
    {"file": "a.wav", "text": "turn on the light", "language": "en", "condition": "clean"},
    {"file": "b.wav", "text": "call anna", "language": "en", "condition": "noisy"},
    {
        "file": "c.wav",
        "text": "bitte hilfe",
        "language": "de",
        "condition": "clean",
        "translation": "help please",
    },
    {"file": "d.wav", "text": "", "language": "en", "condition": "nospeech"},
)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="session")
def exported(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported_from(source, tmp_path_factory.mktemp("tiny") / "exported")


@pytest.fixture(scope="session")
def converted(exported: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """As OpenVINO IR."""
    workdir = tmp_path_factory.mktemp("converted")
    step = load_pass("convert_openvino")
    return execute(step, {"model": exported}, step.Params(), workdir).artifact


@pytest.fixture(scope="session")
def wrecked(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Every matrix rounded to 3 bits with one scale, then exported."""
    root = tmp_path_factory.mktemp("tiny") / "wrecked"
    shutil.copytree(source.root, root)
    tensors = load_file(root / "model.safetensors")
    rounded = {name: _three_bits(value) if value.ndim > 1 else value for name, value in tensors.items()}
    (root / "model.safetensors").unlink()
    save_file(rounded, root / "model.safetensors")
    return exported_from(replace(source, root=root), root.with_name("wrecked_onnx"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for place, clip in enumerate(CLIPS):
        samples = 0.1 * generator.standard_normal(SAMPLE_RATE * (1 + place)).astype(np.float32)
        soundfile.write(directory / clip["file"], samples, SAMPLE_RATE)
    lines = [json.dumps(clip) + "\n" for clip in CLIPS]
    (directory / "transcripts.jsonl").write_text("".join(lines))
    return directory


def _three_bits(values: np.ndarray) -> np.ndarray:
    scale = np.abs(values).max() / 3
    return np.asarray(np.clip(np.round(values / scale), -4, 3) * scale, values.dtype)
