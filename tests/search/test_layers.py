"""Layers and blocks of a model: every matrix once, patterns that match what they stand for, bytes as they are stored."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from exported_whisper import LINEAR, VOCAB, WIDTH, exported

from pocket_opt.search.layers import FORMS, Layer, groups_of, layers_of
from pocket_opt.search.variants import build

ALL = {"encoder": ("int8_dynamic", "int4"), "decoder": ("int8", "int4", "int2")}


def test_every_matrix_is_a_layer_once() -> None:
    layers = layers_of(exported())
    assert len(layers) == len({layer.name for layer in layers}) == sum(LINEAR.values()) + 1
    assert [layer for layer in layers if layer.embedding] == [
        Layer("decoder.embed_tokens", "decoder", (WIDTH, VOCAB), embedding=True)
    ]


@pytest.mark.parametrize("by_block", [False, True])
def test_groups_hold_each_layer_once_and_their_patterns_match_no_other(by_block: bool) -> None:
    layers = layers_of(exported())
    groups = groups_of(layers, ALL, by_block=by_block)
    assert sorted(layer.name for group in groups for layer in group.layers) == sorted(
        layer.name for layer in layers
    )
    for group in groups:
        matched = {layer.name for layer in layers if fnmatchcase(layer.name, group.pattern)}
        assert matched == {layer.name for layer in group.layers}
    # Keys and values of the decoder's cross-attention are in the encoder.
    assert {group.pattern for group in groups if len(group.components) > 1} == (
        {f"decoder.layers.{number}.encoder_attn.*" for number in range(2)} if by_block else set()
    )
    assert len(groups) < len(layers) if by_block else len(groups) == len(layers)


@pytest.mark.parametrize("form", ["int8_dynamic", "int4_dynamic", "int8", "int4", "int2"])
def test_bytes_are_those_that_are_stored(tmp_path: Path, form: str) -> None:
    layers = layers_of(exported())
    [group] = [
        group
        for group in groups_of(layers, {"encoder": tuple(FORMS)}, by_block=False)
        if group.pattern == "encoder.layers.0.fc2"
    ]
    variant = build(exported(), [group.rule(form)], layers, tmp_path)
    saved = exported().size("encoder") - variant.size("encoder")
    scales = {"int8_dynamic": 64, "int4_dynamic": 64 + 64 * 128 // 32}
    scales_in_16_bits = 2 * (scales.get(form) or 64 * 128 // FORMS[form]["block_size"])
    expected = 2 * group.bytes_as("float") - group.bytes_as(form) - scales_in_16_bits
    assert saved == pytest.approx(expected, abs=2400)  # names and attributes of the new nodes
    assert variant.size("decoder") == exported().size("decoder")
