from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from whisper_fixtures import tiny_checkpoint

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.layout import weight_files
from pocket_opt.models.whisper.checkpoint import open_checkpoint

NAME = "model.encoder.layers.0.fc1.weight"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path).root


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_weights(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, directory / "model.safetensors")


def test_dimensions(directory: Path) -> None:
    dims = open_checkpoint(directory).dims
    assert (dims.encoder_layers, dims.decoder_layers, dims.mels, dims.vocab) == (3, 2, 80, 511)
    assert (dims.frames, dims.samples, dims.window_s) == (400, 64_000, 4)
    assert isinstance(dims.window_s, int)
    assert dims.metadata()["sample_rate"] == 16_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_stored_precision_is_read_as_float32(directory: Path, dtype: torch.dtype) -> None:
    tensors = load_file(directory / "model.safetensors")
    rewrite_weights(directory, {name: value.to(dtype) for name, value in tensors.items()})
    found = open_checkpoint(directory).read(NAME)
    assert found.dtype == np.float32
    assert np.array_equal(found, tensors[NAME].to(dtype).float().numpy())


def test_shards_are_read_through_their_index(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    table = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, directory / file)
        table |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    checkpoint = open_checkpoint(directory)
    assert all(np.array_equal(checkpoint.read(name), tensors[name].numpy()) for name in names)
    assert weight_files(directory)[0] == "model.safetensors.index.json"
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="lacks model-00002-of-00002"):
        open_checkpoint(directory)


def test_a_bare_whisper_model_has_no_prefix(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    rewrite_weights(directory, {name.removeprefix("model."): value for name, value in tensors.items()})
    assert np.array_equal(open_checkpoint(directory).read(NAME), tensors[NAME].numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}, r"'wav2vec2' \(Wav2Vec2ForCTC\)"),
        ({"model_type": None, "architectures": None}, "no architecture"),
        ({"activation_function": "relu"}, "activation_function='relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"d_model": 0}, "'d_model' is 0"),
        ({"vocab_size": "many"}, "'vocab_size' is 'many'"),
    ],
)
def test_what_is_no_whisper_is_refused(directory: Path, changes: dict[str, Any], message: str) -> None:
    change_config(directory, **changes)
    with pytest.raises(UserError, match=message):
        open_checkpoint(directory)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, r"no config\.json"),
        ("config.json", "{", r"config\.json is damaged: it is not valid JSON"),
        ("config.json", "[]", "does not hold a table"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", "\x02" + "\0" * 7 + "[]", "not a safetensors file"),
        ("model.safetensors", "", "not a safetensors file"),
        ("model.safetensors", "\x10" + "\0" * 7 + "not json at all!", "not a safetensors file"),
        ("model.safetensors", "\xff" * 9, "not a safetensors file"),
    ],
)
def test_missing_and_damaged_files_are_named(
    directory: Path, file: str, content: str | None, message: str
) -> None:
    (directory / file).unlink()
    if content is not None:
        (directory / file).write_bytes(content.encode("latin1"))
    with pytest.raises(UserError, match=message):
        open_checkpoint(directory)


def test_a_file_that_was_cut_short_is_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        open_checkpoint(directory)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [(None, rf"no tensor '{NAME}'"), (torch.zeros(128, 63), rf"'{NAME}' has shape \[128, 63\]")],
)
def test_every_tensor_of_the_architecture_has_to_be_there(
    directory: Path, tensor: torch.Tensor | None, message: str
) -> None:
    tensors = load_file(directory / "model.safetensors")
    del tensors[NAME]
    rewrite_weights(directory, tensors if tensor is None else {**tensors, NAME: tensor})
    with pytest.raises(UserError, match=message):
        open_checkpoint(directory)


def test_unusable_tensors_are_named(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    broken = tensors[NAME].clone()
    broken[3, 2] = float("nan")
    integers = torch.zeros(3, dtype=torch.int8)
    rewrite_weights(directory, {**tensors, NAME: broken, "integers": integers})
    checkpoint = open_checkpoint(directory)
    with pytest.raises(PocketOptError, match=f"'{NAME}' holds values that are not finite"):
        checkpoint.read(NAME)
    with pytest.raises(PocketOptError, match="type I8"):
        checkpoint.read("integers")
    with pytest.raises(PocketOptError, match=r"no tensor 'model\.absent'"):
        checkpoint.read("model.absent")
