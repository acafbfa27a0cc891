"""Recipes without a family: their plans by level, and what they cannot be asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optimum_fixtures import bert, recipe_file

from pocket_opt import api
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan

BUILD = {
    "NONE": [],
    "BASIC": ["export", "fuse"],
    "MEDIUM": ["export", "fuse", "fp16"],
    "HIGH": ["export", "fuse", "int8", "fp16"],
    "EXTREME": ["export", "fuse", "weights", "fp16"],
}


def plan(folder: Path, level: str = "HIGH", *overrides: str, target: str = "cpu", **config: object) -> Plan:
    model = bert(folder / "model")
    table = json.loads((model / "config.json").read_text()) | config
    (model / "config.json").write_text(json.dumps(table))
    recipe = recipe_file(folder, model).partition("=")[2]
    return api.plan(recipe, target, level, overrides)


@pytest.mark.parametrize("level", BUILD)
def test_each_level_has_its_chain(tmp_path: Path, level: str) -> None:
    found = plan(tmp_path, level)
    assert [node.name for node in found.graph if node.kind == "build"] == ["source", *BUILD[level]]
    measured = {node.name for node in found.graph if node.kind == "measure"}
    assert measured == (set() if level == "NONE" else {"latency", "parity"})
    assert found.off["quality"] == "measured of models that hear speech"
    if level != "NONE":
        assert found.graph["latency"].inputs["source"] == "source"


def test_a_model_that_speaks_has_its_weights_quantized_alone(tmp_path: Path) -> None:
    found = plan(tmp_path, "HIGH", architectures=["Qwen2ForCausalLM"], model_type="qwen2")
    assert [node.name for node in found.graph if node.kind == "build"] == [
        "source",
        "export",
        "weights",
        "fp16",
    ]
    assert "no patterns are known to fit 'qwen2'" in found.off["fuse"]
    assert found.graph["weights"].params["components"] == ["*"]


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("decoder=all_in_one", "decoder=all_in_one"),
        ("decoding.language=de", "decoding.language"),
        ("audio_context=auto", "audio_context=auto"),
        ("bundle.layout=optimum", "bundle.layout=optimum"),
        ("search=sensitivity", "search=sensitivity"),
        ("tracking.upload_models=true", "tracking.upload_models=true"),
        ("data.evaluation.path=sample:evaluation", "data.evaluation.path"),
    ],
)
def test_what_speaks_of_speech_is_refused(tmp_path: Path, override: str, where: str) -> None:
    with pytest.raises(UserError, match="of this one only its graphs are known") as caught:
        plan(tmp_path, "HIGH", override)
    assert caught.value.where == where


def test_other_refusals(tmp_path: Path) -> None:
    for target in ("openvino", "cpu_best"):
        with pytest.raises(UserError, match=f"the target {target} takes models that a family here") as caught:
            plan(tmp_path, "HIGH", target=target)
        assert caught.value.allowed == "target=cpu"
    with pytest.raises(UserError, match="random weights are made for the family whisper"):
        plan(tmp_path, "HIGH", "recipe.model.weights=random", "recipe.model.architecture={d_model: 64}")
    with pytest.raises(UserError, match="calibrated on speech, which this model is not known to hear"):
        plan(tmp_path, "EXTREME", "nodes.weights.params.algorithm=gptq")
