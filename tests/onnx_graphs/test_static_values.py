"""Static values: caches of several graphs are one, masks are found, and what cannot be quantized is named."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from exported_whisper import exported

from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import load
from pocket_opt.onnx_graphs.static_values import (
    Groups,
    activations,
    complete,
    masks,
    require_quantizable,
    require_static,
)

GRAPHS = ("encoder", "prefill", "decoder")


def graph(component: str) -> ir.Graph:
    return complete(load(exported("static").path(component)).graph)


@pytest.mark.parametrize("component", GRAPHS)
def test_every_value_has_a_shape_and_the_head_a_weight(component: str) -> None:
    found = graph(component)
    for value in activations(found):
        assert value.shape is not None
        assert all(isinstance(size, int) for size in value.shape)
    if component != "encoder":
        head = next(node for node in found if node.name == "proj_out/MatMul")
        assert head.inputs[1] is not None
        assert head.inputs[1].name == "model.decoder.embed_tokens.weight.transposed"


def test_caches_are_one_across_graphs_and_weights_of_the_text_too() -> None:
    groups = Groups()
    for component in GRAPHS:
        groups.add(component, graph(component))
    assert groups.find("prefill", "new_key_0") == groups.find("decoder", "past_key_0")
    assert groups.find("encoder", "cross_value_1") == groups.find("prefill", "cross_value_1")
    assert groups.find("decoder", "past_key_0") != groups.find("decoder", "past_key_1")
    assert groups.find("decoder", "past_key_0") != groups.find("decoder", "past_value_0")
    name = "decoder.layers.0.fc1/Add_output"
    assert groups.find("prefill", name) == groups.find("decoder", name) != groups.find("encoder", name)


def test_masks_and_what_they_were_added_to_are_found() -> None:
    pure, sums = masks(graph("prefill"))
    assert pure == {"cache_mask", "const/causal_mask"}
    joined = "decoder.layers.1.self_attn/Concat_output"
    assert sums[joined] == "cache_mask"
    assert "decoder.layers.1.self_attn/Softmax_output" not in sums
    assert masks(graph("encoder")) == (set(), {})


def test_an_open_dimension_is_named() -> None:
    with pytest.raises(
        PocketOptError, match=r"port 'tokens' has dimensions that are open: \['batch', 'length'\]"
    ):
        require_static(exported(), ("decoder",))


def test_an_unknown_operator_is_named_with_its_node_and_a_remedy() -> None:
    found = graph("encoder")
    norm = next(node for node in found if node.op_type == "LayerNormalization")
    norm.op_type = "GroupNormalization"
    with pytest.raises(PocketOptError, match="the operator GroupNormalization of node 'encoder") as caught:
        require_quantizable(found, ())
    assert "bits: none" in caught.value.fix
    require_quantizable(found, [norm])
