"""The shipped sample: complete, small, labelled, and sensitive enough that damage shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

SAMPLE = Path(__file__).parents[1] / "pocket_opt" / "sample"
LIMIT_BYTES = 24_000_000


def test_the_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= LIMIT_BYTES


def test_the_evaluation_set_is_large_enough_and_partly_noisy() -> None:
    data = Dataset.open("sample:evaluation")  # checks every file against its SHA-256
    conditions = {clip.condition for clip in data}
    assert len(data) >= 200
    assert {"clean", "noisy"} <= conditions
    assert {clip.language for clip in data} >= {"en", "de"}


def test_calibration_and_evaluation_share_no_clip_and_no_voice() -> None:
    evaluation, calibration = (
        [json.loads(line) for line in (SAMPLE / name / "transcripts.jsonl").read_text().splitlines()]
        for name in ("evaluation", "calibration")
    )
    assert not {row["sha256"] for row in evaluation} & {row["sha256"] for row in calibration}
    assert not {row["voice"] for row in evaluation} & {row["voice"] for row in calibration if row["voice"]}


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_transformers_loads_the_shipped_models(name: str) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model = WhisperForConditionalGeneration.from_pretrained(SAMPLE / name)
    processor = WhisperProcessor.from_pretrained(SAMPLE / name)
    assert model.config.vocab_size == len(processor.tokenizer)
    assert {"<|en|>", "<|de|>"} == set(model.generation_config.lang_to_id)


def test_the_card_says_what_the_sample_is() -> None:
    text = (SAMPLE / "README.md").read_text().lower()
    assert "synthetic" in text
    assert "toy" in text


def test_a_wrecked_model_loses_at_least_two_points(tmp_path: Path) -> None:
    """3-bit weights everywhere: were the model oversized for its task, this would not hurt."""
    intact = _word_error_rate(SAMPLE / "teacher", tmp_path / "intact")
    wrecked = _word_error_rate(
        _round_weights(SAMPLE / "teacher", tmp_path / "three_bits"), tmp_path / "wrecked"
    )
    assert wrecked >= intact + 2.0


def _round_weights(source: Path, destination: Path, levels: int = 3) -> Path:
    """A copy whose matrices have 2 x `levels` + 1 values a row."""
    from safetensors.numpy import load_file, save_file

    destination.mkdir()
    for path in source.iterdir():
        (destination / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim >= 2:
            flat = tensor.reshape(len(tensor), -1)
            scale = np.abs(flat).max(axis=1, keepdims=True) / levels + 1e-12
            tensors[name] = (np.round(flat / scale) * scale).reshape(tensor.shape).astype(np.float32)
    save_file(tensors, destination / "model.safetensors", metadata={"format": "pt"})
    return destination


def _word_error_rate(checkpoint: Path, workdir: Path) -> float:
    """WER in percent of the exported model on 40 clips."""
    source = _run("load_source", {}, workdir / "source", path=str(checkpoint), digest="")
    exported = _run("export_onnx", {"model": source}, workdir / "exported")
    data = Path(str(SAMPLE / "evaluation"))
    quality = _run(
        "quality", {"model": exported}, workdir / "quality", data_path=str(data), data_digest="", limit=40
    )
    result = json.loads(quality.path("result").read_text())
    return float(result["metrics"]["wer"]["value"])


def _run(name: str, inputs: dict[str, Artifact], workdir: Path, **params: object) -> Artifact:
    workdir.mkdir(parents=True)
    step = load_pass(name)
    return execute(step, inputs, step.Params(**params), workdir).artifact
