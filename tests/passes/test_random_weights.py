from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute

SMALL = {
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "heads": 4,
    "vocab": 2_500,
    "source_positions": 200,
    "target_positions": 64,
}


def make(workdir: Path, **params: Any) -> Outcome:
    step = load_pass("random_weights")
    workdir.mkdir(exist_ok=True)
    return execute(step, {}, step.Params(**{**SMALL, **params}), workdir)


def test_transformers_loads_and_decodes_it(tmp_path: Path) -> None:
    artifact = make(tmp_path).artifact
    model = WhisperForConditionalGeneration.from_pretrained(artifact.root)
    processor = WhisperProcessor.from_pretrained(artifact.root)
    assert len(processor.tokenizer) == 2_500 == model.config.vocab_size
    torch.manual_seed(0)
    tokens = model.generate(torch.randn(1, 80, 400), language="ko", task="translate", max_new_tokens=30)[0]
    assert len(set(tokens[-30:].tolist())) >= 20
    assert processor.decode(tokens, skip_special_tokens=True).strip()


def test_the_artifact_says_that_weights_are_random(tmp_path: Path) -> None:
    outcome = make(tmp_path)
    artifact = outcome.artifact
    assert artifact.metadata["weights"] == "random"
    assert artifact.metadata["runtime"] == "transformers"
    assert artifact.metadata["dims"]["encoder_ffn_dim"] == 256
    assert artifact.metadata["dims"]["window_s"] == 4
    assert artifact.components["model"].files[0] == "model.safetensors"
    assert artifact.file("processor", "tokenizer.json").is_file()
    assert outcome.did["bytes"] == artifact.size("model")


def test_the_seed_is_the_only_source_of_chance(tmp_path: Path) -> None:
    first, second, other = (
        make(tmp_path / name, seed=seed).artifact.path("model").read_bytes()
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == second != other


def test_an_english_only_vocabulary(tmp_path: Path) -> None:
    artifact = make(tmp_path, vocab=51_864, source_positions=1_500, ffn_dim=96).artifact
    table = json.loads(artifact.file("model", "generation_config.json").read_text())
    assert table["is_multilingual"] is False
    assert artifact.metadata["dims"]["decoder_ffn_dim"] == 96


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"heads": 5}, "cannot be divided among 5 heads"),
        ({"vocab": 300}, "no room"),
    ],
)
def test_impossible_architectures_are_refused(tmp_path: Path, params: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, **params)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_dimensions_does_not_pass(tmp_path: Path) -> None:
    step, outcome = load_pass("random_weights"), make(tmp_path)
    with pytest.raises(PocketOptError, match="other dimensions"):
        step.ensures({}, step.Params(**{**SMALL, "mels": 128}), outcome)
