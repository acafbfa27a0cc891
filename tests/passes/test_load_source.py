from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from whisper_fixtures import tiny_checkpoint

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.sources import content_digest
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tiny_checkpoint(tmp_path / "model").root
    (directory / "artifact.json").unlink()
    return directory


def take(directory: Path, **params: Any) -> Outcome:
    step = load_pass("load_source")
    workdir = directory.parent / "taken"
    workdir.mkdir()
    return execute(
        step,
        {},
        step.Params(
            **{"digest": content_digest(directory) if directory.is_dir() else "", **params},
            path=str(directory),
        ),
        workdir,
    )


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_checkpoint_is_taken_as_it_is(model: Path) -> None:
    (model / "README.md").write_text("not needed")
    outcome = take(model)
    artifact = outcome.artifact
    assert artifact.metadata["weights"] == "pretrained"
    assert artifact.components["model"].files == (
        "model.safetensors",
        "config.json",
        "generation_config.json",
    )
    described = {name for part in artifact.components.values() for name in part.files}
    assert {path.name for path in artifact.root.iterdir()} == described | {"artifact.json"}
    assert all((artifact.root / name).read_bytes() == (model / name).read_bytes() for name in described)
    assert outcome.did == {
        "bytes": artifact.size("model"),
        "derived": [],
        "converted_from_pickle": False,
    }


def test_transformers_loads_the_result(model: Path) -> None:
    root = take(model).artifact.root
    assert WhisperForConditionalGeneration.from_pretrained(root).config.d_model == 64
    assert len(WhisperProcessor.from_pretrained(root).tokenizer) == 511


def test_a_changed_original_does_not_change_what_was_taken(model: Path) -> None:
    artifact = take(model).artifact
    before = artifact.path("model").read_bytes()
    with (model / "model.safetensors").open("r+b") as file:
        file.write(b"overwritten")
    assert artifact.path("model").read_bytes() == before


def test_random_weights_keep_their_label(model: Path) -> None:
    assert take(model, weights="random").artifact.metadata["weights"] == "random"


def test_what_follows_from_the_rest_is_derived(model: Path) -> None:
    names = ["generation_config.json", "preprocessor_config.json"]
    originals = [json.loads((model / name).read_text()) for name in names]
    for name in names:
        (model / name).unlink()
    outcome = take(model)
    assert outcome.did["derived"] == names
    assert [json.loads((outcome.artifact.root / name).read_text()) for name in names] == originals


def pickle_weights(model: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    # As in the published files: the head is the embedding, under a second name.
    return {**tensors, "proj_out.weight": tensors["model.decoder.embed_tokens.weight"]}


def test_pickled_tensors_are_converted(model: Path) -> None:
    tensors = pickle_weights(model)
    torch.save(tensors, model / "pytorch_model.bin")
    outcome = take(model)
    assert outcome.did["converted_from_pickle"]
    found = load_file(outcome.artifact.path("model"))
    assert set(tensors) - set(found) == {"proj_out.weight"}
    assert all(torch.equal(found[name], tensors[name]) for name in found)


def test_pickled_shards_are_converted(model: Path) -> None:
    tensors = pickle_weights(model)
    names = sorted(tensors)
    for file, part in (("a.bin", names[::2]), ("b.bin", names[1::2])):
        torch.save({name: tensors[name] for name in part}, model / file)
    table = {name: "ab"[place % 2] + ".bin" for place, name in enumerate(names)}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    assert len(load_file(take(model).artifact.path("model"))) == len(tensors) - 1


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("content", [{"weight": Attack()}, b"no pickle"])
def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(
    model: Path, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickle_weights(model)
    monkeypatch.chdir(model)
    if isinstance(content, bytes):
        (model / "pytorch_model.bin").write_bytes(content)
    else:
        torch.save(content, model / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than tensors"):
        take(model)
    assert not (model / "attacked").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"no config\.json"),
        ("model.safetensors", r"lacks model\.safetensors"),
        ("tokenizer.json", r"lacks tokenizer\.json"),
    ],
)
def test_missing_files_are_named(model: Path, name: str, message: str) -> None:
    (model / name).unlink()
    with pytest.raises(UserError, match=message):
        take(model)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "bert"}, "another architecture: model_type 'bert'"),
        ("config.json", {"vocab_size": 400}, "has the id 510, but the model knows 400 tokens"),
        ("preprocessor_config.json", {"feature_size": 128}, "has feature_size=128"),
        ("preprocessor_config.json", {"chunk_length": 30}, "has chunk_length=30"),
        ("tokenizer.json", {"model": None}, "holds no byte-level BPE"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    model: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    edit(model / name, **changes)
    with pytest.raises(UserError, match=message):
        take(model)
    assert not list((model.parent / "taken").iterdir())


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no directory"):
        take(tmp_path / "absent")


def test_a_model_that_is_not_the_planned_one_is_refused(model: Path) -> None:
    with pytest.raises(PocketOptError, match="changed after they were planned with"):
        take(model, digest="0" * 64)
