"""Which files make up a model, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocket_opt.errors import UserError
from pocket_opt.models.layout import model_files, read_table, weight_files

KINDS = {
    "model.safetensors": "x",
    "model.safetensors.index.json": json.dumps({"weight_map": {"b": "2.safetensors", "a": "1.safetensors"}}),
    "pytorch_model.bin": "x",
    "pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": "1.bin", "b": "1.bin"}}),
}


def write(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).write_text(KINDS.get(name, "{}"))
    return directory


def test_one_kind_of_weights_is_chosen(tmp_path: Path) -> None:
    write(tmp_path, *KINDS, "1.safetensors", "2.safetensors", "1.bin")
    chosen = []
    for name in KINDS:
        chosen.append(weight_files(tmp_path))
        (tmp_path / name).unlink()
    assert chosen == [
        ("model.safetensors",),
        ("model.safetensors.index.json", "1.safetensors", "2.safetensors"),
        ("pytorch_model.bin",),
        ("pytorch_model.bin.index.json", "1.bin"),
    ]
    with pytest.raises(UserError, match="holds no weights"):
        weight_files(tmp_path)


def test_files_that_can_be_had_count_as_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors.index.json")
    names = {"model.safetensors.index.json", "1.safetensors", "2.safetensors"}
    assert set(weight_files(tmp_path, names)) == names
    with pytest.raises(UserError, match=r"lacks 2\.safetensors"):
        weight_files(tmp_path, names - {"2.safetensors"})
    with pytest.raises(UserError, match=r"lacks 1\.safetensors, 2\.safetensors"):
        weight_files(tmp_path)


def test_the_files_of_a_model(tmp_path: Path) -> None:
    write(tmp_path, "pytorch_model.bin", "config.json", "vocab.json", "README.md", "optimizer.bin")
    assert set(model_files(tmp_path)) == {"pytorch_model.bin", "config.json", "vocab.json"}


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not valid JSON"), ("[]", "hold a table"), ("\udcff", "not valid JSON")]
)
def test_a_damaged_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=rf"config\.json is damaged: it .*{message}") as caught:
        read_table(path)
    assert caught.value.where == str(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json cannot be read \(No such file"):
        read_table(tmp_path / "config.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json cannot be read \(Is a directory\)"):
        read_table(tmp_path / "folder.json")
