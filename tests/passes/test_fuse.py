from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute

ENCODER_LAYERS, DECODER_LAYERS = 3, 2
SIZES = [
    {"batch": 1, "past": 0, "length": 1},
    {"batch": 1, "past": 0, "length": 5},
    {"batch": 3, "past": 7, "length": 1},
    {"batch": 2, "past": 11, "length": 4},
]


@cache
def exported(decoder: str = "kv_cache") -> Artifact:
    source = tiny_checkpoint(Path(mkdtemp(prefix="source-")))
    return run("export_onnx", source, decoder=decoder).artifact


@cache
def fused(decoder: str = "kv_cache", **params: Any) -> Outcome:
    return run("fuse", exported(decoder), **params)


def run(name: str, artifact: Artifact, **params: Any) -> Outcome:
    step = load_pass(name)
    return execute(step, {"model": artifact}, step.Params(**params), Path(mkdtemp(prefix=f"{name}-")))


def outputs(artifact: Artifact, component: str, sizes: dict[str, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    feeds = {}
    for port in artifact.components[component].inputs:
        shape = [sizes[size] if isinstance(size, str) else size for size in port.shape]
        drawn = random.standard_normal(shape) if port.dtype == "float32" else random.integers(0, 300, shape)
        feeds[port.name] = drawn.astype(port.dtype)
    result: list[np.ndarray] = onnxruntime.InferenceSession(artifact.path(component)).run(None, feeds)
    return result


def operators(artifact: Artifact, component: str) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(artifact.path(component)).graph)


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
@pytest.mark.parametrize("rules", [("attention", "bias_gelu"), ("skip_layer_norm",), ("bias_gelu",)], ids=str)
@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_answers_stay(decoder: str, rules: tuple[str, ...], component: str) -> None:
    after = fused(decoder, rules=rules).artifact
    for sizes in SIZES:
        for old, new in zip(
            outputs(exported(decoder), component, sizes), outputs(after, component, sizes), strict=True
        ):
            assert old.shape == new.shape
            assert np.abs(old - new).max() <= 1e-5 * np.abs(old).max()


def test_every_attention_and_gelu_is_fused_and_counted() -> None:
    did = fused().did
    assert did["encoder"]["rules"]["attention"] == {"applied": ENCODER_LAYERS, "left_out": {}}
    assert did["decoder"]["rules"]["attention"] == {"applied": 2 * DECODER_LAYERS, "left_out": {}}
    assert did["decoder"]["rules"]["bias_gelu"] == {"applied": DECODER_LAYERS, "left_out": {}}
    convolutions = {"its input is no projection with a bias": 2}
    assert did["encoder"]["rules"]["bias_gelu"] == {"applied": ENCODER_LAYERS, "left_out": convolutions}
    encoder, decoder = (operators(fused().artifact, name) for name in ("encoder", "decoder"))
    assert encoder["MultiHeadAttention"] == ENCODER_LAYERS
    assert decoder["MultiHeadAttention"] == 2 * DECODER_LAYERS
    assert not {"Softmax", "Trilu", "ConstantOfShape"} & set(decoder)
    assert did["decoder"]["nodes_after"] == decoder.total() < did["decoder"]["nodes_before"] * 0.6


def test_skip_layer_norm_gives_sum_and_norm_where_both_are_read() -> None:
    artifact = fused(rules=("skip_layer_norm",)).artifact
    found = operators(artifact, "encoder")
    # The first norm stands after the positions, whose sum has other shapes.
    assert (found["SkipLayerNormalization"], found["LayerNormalization"]) == (2 * ENCODER_LAYERS, 1)


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
def test_weights_stay_visible_to_quantizers(decoder: str) -> None:
    def weights(artifact: Artifact) -> Counter[str]:
        graphs = (ir.load(artifact.path(name)).graph for name in ("encoder", "decoder"))
        nodes = (node for graph in graphs for node in graph if node.op_type == "MatMul")
        return Counter(
            str(node.inputs[1].name) for node in nodes if node.inputs[1] and node.inputs[1].is_initializer()
        )

    assert weights(fused(decoder).artifact) == weights(exported(decoder))


def test_everything_else_stays() -> None:
    before, after = exported(), fused().artifact
    assert after.components == before.components
    assert after.metadata == before.metadata
    assert after.path("mel").read_bytes() == before.path("mel").read_bytes()


def test_names_tell_the_module() -> None:
    names = {node.name for node in ir.load(fused().artifact.path("decoder")).graph}
    assert "decoder.layers.1.encoder_attn/MultiHeadAttention" in names
    assert "decoder.layers.0.activation_fn/BiasGelu" in names


def test_clean_up_removes_what_changes_nothing(tmp_path: Path) -> None:
    model = ir.load(exported().path("encoder"))
    norm = next(node for node in model.graph if node.op_type == "LayerNormalization")
    identity = ir.node("Identity", [norm.outputs[0]], name="copy")
    twin = ir.node("Relu", [norm.outputs[0]], name="unused")
    ir.convenience.replace_all_uses_with(norm.outputs[0], identity.outputs[0])
    identity.replace_input_with(0, norm.outputs[0])
    model.graph.insert_after(norm, [identity, twin])
    artifact = exported().carry(tmp_path, without=("encoder",))
    ir.save(model, tmp_path / "encoder.onnx")
    artifact = artifact.with_component("encoder", exported().components["encoder"])
    removed = run("fuse", artifact, components=("encoder",)).did["encoder"]["removed_first"]
    assert (removed["IdentityElimination"], removed["RemoveUnusedNodes"]) == (1, 1)


def test_fusing_twice_is_an_error() -> None:
    with pytest.raises(PocketOptError, match="nothing could be fused in component 'encoder'") as error:
        run("fuse", fused().artifact)
    assert "the graph has no Softmax" in str(error.value)


def test_the_mel_graph_has_nothing_to_fuse() -> None:
    with pytest.raises(PocketOptError, match="component 'mel'"):
        run("fuse", exported(), components=("mel",))


def test_unknown_components_are_refused() -> None:
    with pytest.raises(PocketOptError, match="no ONNX component 'head'"):
        run("fuse", exported(), components=("head",))
