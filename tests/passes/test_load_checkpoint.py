"""Checkpoints of any architecture: what is taken along, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from optimum_fixtures import bert
from safetensors.torch import load_file

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute


def load(directory: Path, workdir: Path, **params: Any) -> Outcome:
    workdir.mkdir()
    step = load_pass("load_checkpoint")
    return execute(step, {}, step.Params(path=str(directory), **params), workdir)


def test_weights_configuration_and_tokenizer_are_taken(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    (model / "vocab.txt").write_text("[PAD]\n")
    (model / "notes.md").write_text("not part of it")
    artifact = load(model, tmp_path / "out").artifact
    assert artifact.components["model"].files == ("model.safetensors", "config.json")
    assert artifact.components["processor"].files == ("vocab.txt",)
    assert artifact.metadata["class"] == "BertForSequenceClassification"
    assert artifact.metadata["model_type"] == "bert"
    assert not (tmp_path / "out" / "notes.md").exists()


def test_pickles_are_converted(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    torch.save(weights, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    outcome = load(model, tmp_path / "out")
    assert outcome.did["converted_from_pickle"]
    assert load_file(outcome.artifact.path("model")).keys() == weights.keys()


def test_pickled_weights_that_share_memory_are_all_kept(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    shared = next(iter(weights.values()))
    torch.save({**weights, "proj_out.weight": shared}, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    kept = load_file(load(model, tmp_path / "out").artifact.path("model"))
    assert torch.equal(kept["proj_out.weight"], shared)
    assert kept.keys() == {*weights, "proj_out.weight"}


def test_what_is_no_model_of_transformers_is_refused(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["BertTokenizer"]}))
    with pytest.raises(UserError, match="has no model class 'BertTokenizer'"):
        load(model, tmp_path / "out")


@pytest.mark.parametrize("code", [False, True])
def test_a_class_that_transformers_lacks_is_refused(tmp_path: Path, code: bool) -> None:
    model = bert(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["architectures"] = ["BertForPoetry"]
    if code:
        config["auto_map"] = {"AutoModel": "modeling.BertForPoetry"}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no model class 'BertForPoetry'") as caught:
        load(model, tmp_path / "out")
    assert ("code that comes with a model is not run" in str(caught.value)) == code


def test_files_that_changed_after_planning_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="changed after they were planned with"):
        load(bert(tmp_path / "model"), tmp_path / "out", digest="0" * 64)
