from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from runner_fixtures import export, sound, talkative_checkpoint
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from whisper_fixtures import tiny_checkpoint

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.sources import content_digest
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tiny_checkpoint(tmp_path / "model").root
    (directory / "artifact.json").unlink()
    return directory


def take(directory: Path, **params: Any) -> Outcome:
    step = load_pass("load_source")
    workdir = directory.parent / "taken"
    workdir.mkdir()
    return execute(step, {}, step.Params(**params, path=str(directory)), workdir)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_checkpoint_is_taken_as_it_is(model: Path) -> None:
    (model / "README.md").write_text("not needed")
    outcome = take(model, digest=content_digest(model))
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
        "generation_added": [],
        "generation_reset": {},
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


def test_an_older_model_is_told_its_languages_all_the_same(model: Path) -> None:
    path = model / "generation_config.json"
    table = json.loads(path.read_text())
    older = (
        "lang_to_id",
        "task_to_id",
        "no_timestamps_token_id",
        "is_multilingual",
        "max_initial_timestamp_index",
    )
    path.write_text(json.dumps({key: value for key, value in table.items() if key not in older}))
    outcome = take(model)
    assert json.loads((outcome.artifact.root / path.name).read_text()) == table
    assert outcome.did["generation_added"] == sorted(older)
    assert outcome.did["derived"] == []
    assert "lang_to_id" not in json.loads(path.read_text())


def test_both_runners_decode_by_the_same_rules(tmp_path: Path) -> None:
    """One that lacks what newer models state, and states what only one of the runners has."""
    talkative_checkpoint(tmp_path / "model", seed=6)
    path = tmp_path / "model" / "generation_config.json"
    table = json.loads(path.read_text())
    kept = {key: table[key] for key in ("max_length", "suppress_tokens", "eos_token_id")}
    path.write_text(json.dumps({**kept, "no_repeat_ngram_size": 1, "pad_token_id": None, "num_beams": 4}))
    source = take(tmp_path / "model").artifact
    audio, options = [sound(3, 0), sound(4, 1)], DecodeOptions(timestamps=True)
    first = open_runtime(source, threads=1).transcribe(audio, options)
    second = open_runtime(export(source, tmp_path / "exported"), threads=1).transcribe(audio, options)
    assert [clip.tokens for clip in first] == [clip.tokens for clip in second]
    assert [clip.language for clip in first] == [clip.language for clip in second]
    assert any(len(set(clip.tokens)) < len(clip.tokens) for clip in first)


def test_rules_of_the_configuration_are_not_lost(model: Path) -> None:
    (model / "generation_config.json").unlink()
    edit(model / "config.json", suppress_tokens=[1, 2, 7], begin_suppress_tokens=[5])
    table = json.loads((take(model).artifact.root / "generation_config.json").read_text())
    assert (table["suppress_tokens"], table["begin_suppress_tokens"]) == ([1, 2, 7], [5])


def test_what_greedy_decoding_does_not_have_is_left_out(model: Path) -> None:
    path = model / "generation_config.json"
    before = json.loads(path.read_text())
    edit(path, no_repeat_ngram_size=2)
    (model / "generation_config.json").chmod(0o444)  # linked, not copied
    outcome = take(model)
    assert json.loads((outcome.artifact.root / path.name).read_text()) == before
    assert outcome.did["generation_reset"] == {"no_repeat_ngram_size": 2}
    assert json.loads(path.read_text())["no_repeat_ngram_size"] == 2


def test_a_tokenizer_in_lists_is_put_together(model: Path) -> None:
    (model / "tokenizer.json").rename(model.parent / "tokenizer.json")
    outcome = take(model)
    assert outcome.did["derived"] == ["tokenizer.json"]
    root = outcome.artifact.root
    assert json.loads((root / "tokenizer.json").read_text()) == json.loads(
        (model.parent / "tokenizer.json").read_text()
    )
    assert len(WhisperProcessor.from_pretrained(root).tokenizer) == 511


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
        ("model.safetensors", "holds no weights"),
        ("tokenizer.json", r"lacks tokenizer\.json"),
    ],
)
def test_missing_files_are_named(model: Path, name: str, message: str) -> None:
    (model / name).unlink()
    (model / "merges.txt").unlink()
    with pytest.raises(UserError, match=message):
        take(model)


@pytest.mark.parametrize("pickled", [False, True])
def test_missing_tensors_are_named(model: Path, pickled: bool) -> None:
    tensors = pickle_weights(model)
    del tensors["model.decoder.layers.1.fc1.weight"]
    if pickled:
        torch.save(tensors, model / "pytorch_model.bin")
    else:
        del tensors["proj_out.weight"]
        save_file(tensors, model / "model.safetensors")
    with pytest.raises(UserError, match=r"no tensor 'model\.decoder\.layers\.1\.fc1\.weight'"):
        take(model)


@pytest.mark.parametrize("content", ['{"a": ', "[]"])
@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "vocab.json",
    ],
)
def test_damaged_tables_are_named(model: Path, name: str, content: str) -> None:
    (model / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        take(model)
    assert not list((model.parent / "taken").iterdir())


@pytest.mark.parametrize(
    "content",
    ["{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../b.safetensors"}}'],
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_a_damaged_index_is_named(model: Path, index: str, content: str) -> None:
    (model / "model.safetensors").unlink()
    (model / index).write_text(content)
    with pytest.raises(UserError, match="weight_map names no files beside it"):
        take(model)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "bert"}, "another architecture: model_type 'bert'"),
        ("config.json", {"vocab_size": 400}, r"has shape \[511, 64\]"),
        ("tokenizer.json", {"added_tokens": [{"content": "x", "id": 511}]}, "has the id 511, but the model"),
        ("tokenizer.json", {"added_tokens": []}, r"no <\|endoftext\|> in its place"),
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
