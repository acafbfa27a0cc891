"""Inputs made by names, types and shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.evaluation.made_inputs import MadeInputs
from pocket_opt.onnx_graphs.inputs import random_inputs

TEXT = Component(
    "onnx",
    ("model.onnx",),
    (
        Port("input_ids", "int64", ("batch_size", "sequence_length")),
        Port("attention_mask", "int64", ("batch_size", "past_sequence_length + sequence_length")),
        Port("position_ids", "int64", ("batch_size", "sequence_length")),
        Port("token_type_ids", "int64", ("batch_size", "sequence_length")),
        Port("past_key_values.0.key", "float32", ("batch_size", 2, "past_sequence_length", 8)),
    ),
)


def test_sums_of_dimensions_follow_from_their_parts() -> None:
    feeds = random_inputs(TEXT)
    past, new = feeds["past_key_values.0.key"].shape[2], feeds["input_ids"].shape[1]
    assert feeds["attention_mask"].shape == (1, past + new)
    assert past != new
    assert feeds["attention_mask"].all()
    assert not feeds["token_type_ids"].any()
    assert random_inputs(TEXT, sizes={"past_sequence_length": 3})["attention_mask"].shape[1] == new + 3


def test_made_inputs_start_from_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 500, "max_position_embeddings": 40}')
    settings = Component("json", ("config.json",))
    artifact = Artifact(tmp_path, {"model": TEXT, "generation": settings})
    feeds = MadeInputs().of(artifact, "model", batch=2)
    assert feeds["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert feeds["input_ids"].shape == feeds["attention_mask"].shape == (2, 40)
    assert 8 < feeds["input_ids"].max() < 500
    assert np.array_equal(feeds["position_ids"][1], np.arange(40))
    asked = MadeInputs(length=7, sizes={"past_sequence_length": 2}).of(artifact, "model", batch=1)
    assert asked["attention_mask"].shape == (1, 9)


def test_sizes_of_the_artifact_hold(tmp_path: Path) -> None:
    ports = (Port("pixel_values", "float32", ("batch_size", "num_channels", "height", "width")),)
    artifact = Artifact(
        tmp_path,
        {"model": replace(TEXT, inputs=ports)},
        {"sizes": {"num_channels": 3, "height": 32, "width": 24}},
    )
    assert MadeInputs().of(artifact, "model", batch=1)["pixel_values"].shape == (1, 3, 32, 24)


def test_levels_of_quantized_values_lie_around_the_middle() -> None:
    cache = random_inputs(Component("onnx", (), (Port("past_key_0", "uint16", (4, 500)),)))["past_key_0"]
    assert cache.dtype == np.uint16
    assert 30_000 < cache.mean() < 36_000
    assert cache.std() > 5_000
