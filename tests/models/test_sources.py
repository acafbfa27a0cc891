"""Where a model's files are and what identifies them."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
from planned_inputs import write_model
from store_entries import fill_disk

from pocket_opt import digests
from pocket_opt.config.schema import ModelSource
from pocket_opt.errors import UserError
from pocket_opt.home import home
from pocket_opt.models import sources
from pocket_opt.models.sources import Root, resolve
from pocket_opt.models.whisper.vocabulary import LANGUAGES
from pocket_opt.passes import load_pass


def found(source: ModelSource, seed: int = 0) -> Root:
    return resolve(source, "whisper", seed=seed, where="recipe.model")


def test_a_directory_is_known_by_its_content_not_its_place(tmp_path: Path) -> None:
    here = found(ModelSource(path=str(write_model(tmp_path / "a"))))
    there = found(ModelSource(path=str(write_model(tmp_path / "b"))))
    assert here.pass_name == "load_source"
    assert here.params == there.params
    assert here.neutral == {"path": str(tmp_path / "a")}
    assert here.identity == {"sha256": here.params["digest"]}
    assert here.download is None
    other = found(ModelSource(path=str(write_model(tmp_path / "c", weights=b"other"))))
    assert other.params != here.params


def test_every_file_of_the_model_counts_and_nothing_else(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    before = found(ModelSource(path=str(model))).params
    for other in ("README.md", "model.onnx", "pytorch_model.bin", "model.fp32.safetensors", "training.json"):
        (model / other).write_text("not taken")
    (model / "folder.json").mkdir()
    assert found(ModelSource(path=str(model))).params == before
    for name in ("generation_config.json", "merges.txt", "model.safetensors", "tokenizer.json"):
        (model / name).write_text(f"content of {name}")
        now = found(ModelSource(path=str(model))).params
        assert now != before
        before = now


def test_every_shard_counts(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "a.safetensors")
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"x": "a.safetensors"}}')
    before = found(ModelSource(path=str(model))).params
    (model / "a.safetensors").write_text("other")
    assert found(ModelSource(path=str(model))).params != before
    (model / "a.safetensors").unlink()
    with pytest.raises(UserError, match=r"the model lacks a\.safetensors"):
        found(ModelSource(path=str(model)))


@pytest.mark.parametrize(
    ("architecture", "languages"),
    [
        ({"vocab": 51_864}, ("en",)),
        ({}, LANGUAGES[:-1]),
        ({"vocab": 51_866}, LANGUAGES),
        ({"vocab": 700, "source_positions": 200}, LANGUAGES[:-1]),
    ],
)
def test_random_weights_are_told_the_languages_of_their_vocabulary(
    architecture: dict[str, int], languages: tuple[str, ...]
) -> None:
    source = ModelSource(weights="random", architecture={"d_model": 64, "heads": 2, **architecture})
    assert found(source).languages == languages


def test_what_an_architecture_need_not_say_is_as_the_pass_has_it() -> None:
    defaults = {field.name: field.default for field in fields(load_pass("random_weights").Params)}
    assert {name: defaults[name] for name in sources.PUBLISHED} == sources.PUBLISHED


def test_random_weights_without_room_for_the_vocabulary_are_refused() -> None:
    with pytest.raises(UserError, match="no room") as caught:
        found(ModelSource(weights="random", architecture={"vocab": 700}))
    assert caught.value.where == "recipe.model.architecture.vocab"


def test_path_wins_over_hub(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    assert found(ModelSource(hub="openai/whisper-tiny", path=str(model))).download is None


def test_random_weights_are_known_by_architecture_and_seed() -> None:
    source = ModelSource(hub="x/y", weights="random", architecture={"d_model": 64, "heads": 2})
    root = found(source, seed=5)
    assert root.pass_name == "random_weights"
    assert root.params == {"d_model": 64, "heads": 2, "seed": 5}
    assert root.identity == {"weights": "random", "seed": "5"}
    assert root.download is None


def test_a_model_of_the_hub_that_is_not_here_is_to_be_downloaded() -> None:
    root = found(ModelSource(hub="openai/whisper-tiny", revision="v1"))
    assert root.download == ("openai/whisper-tiny", "v1")
    assert root.identity == {"hub": "openai/whisper-tiny", "revision": "v1"}


def test_a_downloaded_model_is_read_from_disk(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    memory = home() / "hub" / "revisions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(json.dumps({"openai/whisper-tiny@main": {"path": str(model), "commit": "c0ffee"}}))
    root = found(ModelSource(hub="openai/whisper-tiny"))
    assert root.download is None
    assert root.params == found(ModelSource(path=str(model))).params
    assert root.identity == {
        "hub": "openai/whisper-tiny",
        "revision": "c0ffee",
        "sha256": root.params["digest"],
    }


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("absent", "there is no directory"),
        ("file", "there is no directory"),
        ("no config", "holds no config.json"),
        ("damaged", "config.json is damaged"),
        ("list", "config.json is damaged"),
        ("binary", "config.json is damaged"),
        ("wav2vec2", "the model is of the architecture 'wav2vec2'"),
        ("no type", "the model is of the architecture 'unknown'"),
        ("no weights", "holds no weights"),
        ("folder", "config.json cannot be read"),
    ],
)
def test_a_directory_that_is_no_such_model_is_told(tmp_path: Path, spoil: str, what: str) -> None:
    model = write_model(tmp_path / "model")
    config = model / "config.json"
    if spoil == "absent":
        model = tmp_path / "other"
    elif spoil == "file":
        model = config
    elif spoil == "no config":
        config.unlink()
    elif spoil == "folder":
        config.unlink()
        config.mkdir()
    elif spoil == "no weights":
        (model / "model.safetensors").unlink()
    else:
        text = {"damaged": "{", "list": "[]", "no type": "{}", "binary": "\udcff"}
        written = text.get(spoil, json.dumps({"model_type": spoil}))
        config.write_text(written, errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        found(ModelSource(path=str(model)))
    assert what in caught.value.what
    assert caught.value.fix
    assert caught.value.allowed or spoil in ("damaged", "list", "binary", "folder")


def test_a_file_that_may_not_be_read_is_the_users_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model")

    def refuse(path: Path) -> str:  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(digests, "file_digest", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)") as caught:
        found(ModelSource(path=str(model)))
    assert Path(caught.value.where).parent == model


def test_a_model_that_is_not_named_is_told() -> None:
    with pytest.raises(UserError, match="no model is named") as caught:
        found(ModelSource())
    assert caught.value.where == "recipe.model"
    with pytest.raises(UserError, match="random weights need the model's dimensions"):
        found(ModelSource(weights="random"))


# digests


def test_big_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    first = found(ModelSource(path=str(model)))

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was hashed again")

    monkeypatch.setattr(digests, "file_digest", refuse)
    assert found(ModelSource(path=str(model))) == first


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    first = found(ModelSource(path=str(model))).params
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[::-1])
    os.utime(weights, ns=(1, 1))
    assert found(ModelSource(path=str(model))).params != first
    weights.write_bytes(content)
    assert found(ModelSource(path=str(model))).params == first


@pytest.mark.parametrize("content", ["{", "[]", '"x"', '{"a": 1}'])
def test_a_damaged_memory_of_digests_is_no_matter(tmp_path: Path, content: str) -> None:
    model = write_model(tmp_path / "model")
    first = found(ModelSource(path=str(model)))
    (home() / "digests.json").write_text(content)
    assert found(ModelSource(path=str(model))) == first


def test_planning_goes_on_where_nothing_can_be_remembered(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model")
    first = found(ModelSource(path=str(model)))
    monkeypatch.setenv("POCKET_OPT_HOME", str(small_disk / "home"))
    fill_disk(small_disk)
    assert found(ModelSource(path=str(model))) == first
