"""Which norms can be scaled, and by what."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from exported_whisper import DECODER_LAYERS, ENCODER_LAYERS, exported, graph

from pocket_opt.onnx_graphs.files import constant
from pocket_opt.onnx_graphs.smoothing import find_smoothable, fold, scales


def test_scales_are_those_of_the_paper() -> None:
    peak = np.array([4.0, 1.0, 0.0, 9.0], np.float32)
    weights = [np.diag([1.0, 4.0, 1.0, 0.0]), np.diag([0.5, -9.0, 1.0, 0.0])]
    found = scales(peak, [weight.astype(np.float32) for weight in weights], 0.5)
    assert np.allclose(found, [2, 1 / 3, 1, 1]), "where a side is silent, the scale is 1"


@pytest.mark.parametrize(("alpha", "even"), [(1.0, "activations"), (0.0, "weights")])
def test_the_ends_of_alpha_make_one_side_even(alpha: float, even: str) -> None:
    random = np.random.default_rng(0)
    peak = random.uniform(0.1, 50, 16).astype(np.float32)
    weight = random.standard_normal((16, 8)).astype(np.float32)
    factors = scales(peak, [weight], alpha)
    sides = {"activations": peak / factors, "weights": np.abs(weight * factors[:, None]).max(axis=1)}
    assert np.allclose(sides[even], 1, rtol=1e-4)


def test_norms_before_layers_are_found_and_the_last_ones_are_not() -> None:
    found, left_out = find_smoothable(graph(exported(), "encoder"))
    assert [len(group.layers) for group in found] == [3, 1] * ENCODER_LAYERS
    assert left_out == {"its output leaves the graph": ["encoder.layer_norm"]}
    found, left_out = find_smoothable(graph(exported(), "decoder"))
    assert [len(group.layers) for group in found] == [3, 1, 1] * DECODER_LAYERS
    assert left_out == {"not only float linear layers read it": ["decoder.layer_norm"]}


def test_a_weight_of_two_norms_is_left_alone() -> None:
    nodes = graph(exported(), "encoder")
    first, second = (group.layers[0] for group in find_smoothable(nodes)[0][1:4:2])
    second.replace_input_with(1, first.inputs[1])
    _, left_out = find_smoothable(nodes)
    assert len(left_out["a weight belongs to other layers, too"]) == 2


def test_a_gain_that_norms_share_is_changed_for_one() -> None:
    nodes = graph(exported(), "encoder")
    one, other = find_smoothable(nodes)[0][:2]
    gain = one.norm.inputs[1]
    assert gain is not None
    other.norm.replace_input_with(1, gain)
    before = constant(gain).copy()
    fold(nodes, one, np.full(len(before), 2, np.float32))
    assert other.norm.inputs[1] is gain
    assert np.array_equal(constant(gain), before)
    assert np.allclose(constant(one.norm.inputs[1]), before / 2)
    assert isinstance(one.norm.inputs[1], ir.Value)
