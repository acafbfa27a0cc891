"""Modules of nodes as ONNX Runtime names them, fused ones too."""

from __future__ import annotations

import pytest

from pocket_opt.evaluation.grouping import MODULES, NodeTime, accumulate, assign_modules, module_of, shares

ENCODER_RUN = [
    ("encoder.conv1/Conv", "Conv", "convolution_stem"),
    ("Gelu", "Gelu", "convolution_stem"),
    ("encoder/Transpose", "Transpose", "convolution_stem"),
    ("encoder.layers.0.self_attn_layer_norm/LayerNormalization", "LayerNormalization", "norm"),
    ("val_8_QuantizeLinear", "DynamicQuantizeLinear", "attention_projections"),
    ("encoder.layers.0.self_attn.k_proj/MatMul_quant", "MatMulIntegerToFloat", "attention_projections"),
    ("encoder.layers.0.self_attn/MatMul_22/MatMulScaleFusion/", "FusedMatMul", "attention"),
    ("encoder.layers.0.self_attn/Softmax", "Softmax", "attention"),
    ("encoder.layers.0.self_attn.out_proj/MatMul_Q8", "MatMulNBits", "attention_projections"),
    ("encoder.layers.0/Add", "Add", "residual"),
    ("encoder.layers.0.final_layer_norm/LayerNormalization", "LayerNormalization", "norm"),
    ("encoder.layers.0.fc1/MatMul", "MatMul", "feed_forward"),
    ("BiasGelu", "BiasGelu", "feed_forward"),
    ("encoder.layers.0.fc2/MatMul", "DynamicQuantizeMatMul", "feed_forward"),
    ("SkipLayerNormalization", "SkipLayerNormalization", "norm"),
]


def test_every_node_of_a_fused_encoder_finds_its_module() -> None:
    nodes = [(name, op_type) for name, op_type, _ in ENCODER_RUN]
    assert assign_modules(nodes, "encoder") == [module for _, _, module in ENCODER_RUN]


@pytest.mark.parametrize(
    ("name", "op_type", "module"),
    [
        ("decoder.embed_tokens/Gather", "Gather", "embedding"),
        ("decoder.embed_positions/Gather", "Gather", "embedding"),
        ("", "GatherBlockQuantized", "embedding"),
        ("decoder.layers.1.encoder_attn.q_proj/MatMul", "MatMul", "attention_projections"),
        ("decoder.layers.1.encoder_attn_layer_norm/LayerNormalization", "LayerNormalization", "norm"),
        ("decoder.layers.1.encoder_attn/MultiHeadAttention", "MultiHeadAttention", "attention"),
        ("decoder.layers.1.self_attn/Concat", "Concat", "attention"),
        ("decoder.layer_norm/LayerNormalization", "LayerNormalization", "norm"),
        ("proj_out/MatMul", "MatMul", "head"),
        ("model.decoder.layers.0.activation_fn", "GELUActivation", "feed_forward"),
        ("something/Unheard", "Unheard", None),
    ],
)
def test_names_and_types(name: str, op_type: str, module: str | None) -> None:
    assert module_of(name, op_type) == module
    assert module is None or module in MODULES


def test_unknown_nodes_are_shown_as_other_and_all_of_mel_is_mel() -> None:
    assert assign_modules([("x", "Unheard")], "step") == ["other"]
    assert assign_modules([("mel.stft/Conv", "Conv"), ("x", "Unheard")], "mel") == ["mel", "mel"]


def test_shares_sum_to_100_largest_first() -> None:
    times = [
        NodeTime("a", "MatMul", "encoder", "head", 30.0),
        NodeTime("b", "Add", "encoder", "residual", 10.0),
        NodeTime("a", "MatMul", "step", "head", 60.0),
    ]
    assert shares(times, "module") == {"head": 90.0, "residual": 10.0}
    assert list(shares(times, "phase").items()) == [("step", 60.0), ("encoder", 40.0)]
    assert shares([], "module") == {}


def test_calls_of_a_node_are_summed_within_a_phase() -> None:
    once = NodeTime("a", "MatMul", "step", "head", 5.0)
    prefill = NodeTime("a", "MatMul", "prefill", "head", 7.0)
    assert accumulate([once, once, prefill]) == [
        NodeTime("a", "MatMul", "step", "head", 10.0, calls=2),
        prefill,
    ]
