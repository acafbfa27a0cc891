from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_sessions import random_features, reference, source
from transformers import WhisperForConditionalGeneration, WhisperModel
from whisper_fixtures import tiny_checkpoint

from pocket_opt.models.whisper.checkpoint import open_checkpoint, state_dict_specs
from pocket_opt.models.whisper.random_checkpoint import random_tensor, sinusoids

TOKENS = 30


def distinct_tokens(model: WhisperForConditionalGeneration, features: np.ndarray) -> list[int]:
    tokens = model.generate(
        torch.from_numpy(features), language="en", task="transcribe", max_new_tokens=TOKENS, do_sample=False
    )
    return [len(set(row[:TOKENS].tolist())) for row in tokens]


@pytest.mark.parametrize("shape", [{}, {"decoder_layers": 5}, {"mels": 128, "encoder_layers": 1}], ids=str)
def test_greedy_decoding_gives_many_distinct_tokens(shape: dict[str, int]) -> None:
    features = random_features(2, shape.get("mels", 80))
    assert min(distinct_tokens(reference(**shape), features)) >= 20


def test_the_answer_depends_on_the_audio() -> None:
    model, tokens = reference(), torch.arange(12)[None]
    features = torch.from_numpy(random_features(2))
    quiet = torch.full_like(features, -1.0)
    with torch.no_grad():
        first, second = (model(x[:1], decoder_input_ids=tokens).logits for x in (features, quiet))
    assert (first - second).abs().max() > 0.5


def test_every_tensor_of_the_architecture_is_written_and_no_other() -> None:
    root = source(encoder_layers=1, decoder_layers=3).root
    _, report = WhisperForConditionalGeneration.from_pretrained(root, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert isinstance(WhisperModel.from_pretrained(root), WhisperModel)


def test_biases_are_not_zero() -> None:
    checkpoint = open_checkpoint(source().root)
    biases = [checkpoint.read(name) for name in checkpoint.tensors if name.endswith(".bias")]
    assert all(np.count_nonzero(bias) == bias.size for bias in biases)


def test_a_tensor_depends_on_its_name_and_the_seed_only() -> None:
    dims = open_checkpoint(source().root).dims
    deeper = replace(dims, encoder_layers=7)
    spec = ("model.encoder.layers.0.fc1.weight", (128, 64))
    first = random_tensor(spec, dims, 300, 0)
    assert np.array_equal(first, random_tensor(spec, deeper, 300, 0))
    assert not np.array_equal(first, random_tensor(spec, dims, 300, 1))
    assert len(dict(state_dict_specs(deeper))) - len(dict(state_dict_specs(dims))) == 4 * 15


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    first, second = (tiny_checkpoint(tmp_path / name, seed=5).root for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_encoder_positions_are_those_of_whisper() -> None:
    model = reference().model.encoder
    assert np.abs(sinusoids(200, 64) - model.embed_positions.weight.detach().numpy()).max() < 1e-6
    assert np.abs(sinusoids(1, 8)[0] - [0, 0, 0, 0, 1, 1, 1, 1]).max() == 0
