"""ONNX Runtime's transformer optimizer on a traced graph and on ours: what it fuses, and that it says when nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from exported_whisper import exported, graph, operators, run_pass

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import load
from pocket_opt.onnx_graphs.writing import ports

LAYERS, WIDTH, HEADS = 2, 32, 4


@cache
def traced_bert() -> Artifact:
    """A small BERT as PyTorch's exporter writes it, without a family of ours."""
    import torch
    from transformers import BertConfig, BertModel

    root = Path(mkdtemp(prefix="traced-bert-"))
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=16,
        attn_implementation="eager",
    )
    layers = BertModel(config).eval().encoder.layer

    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                output = layer(hidden)
                hidden = output[0] if isinstance(output, tuple) else output
            return hidden

    torch.onnx.export(
        Stack(),
        (torch.randn(2, 5, WIDTH),),
        str(root / "model.onnx"),
        dynamo=False,
        input_names=["hidden"],
        output_names=["out"],
        dynamic_axes={"hidden": {0: "batch", 1: "length"}, "out": {0: "batch", 1: "length"}},
    )
    inputs, outputs = ports(load(root / "model.onnx"))
    return Artifact(root, {"model": Component("onnx", ("model.onnx",), inputs, outputs)}, {})


def test_a_traced_graph_is_fused_and_agrees(tmp_path: Path) -> None:
    outcome = run_pass(
        "ort_transformers_optimizer",
        traced_bert(),
        tmp_path,
        model_type="bert",
        heads=HEADS,
        hidden_size=WIDTH,
    )
    fused = outcome.did["components"]["model"]["fused"]
    assert (
        sum(count for op, count in fused.items() if "SkipLayerNorm" in op or op == "LayerNormalization") > 0
    )
    assert any(op in fused for op in ("BiasGelu", "Gelu", "FastGelu"))
    assert len(graph(outcome.artifact, "model")) < len(graph(traced_bert(), "model"))
    assert outcome.did["components"]["model"]["agreement"] == "equal" or outcome.did["components"]["model"][
        "agreement"
    ].endswith("dB")


def test_our_whisper_is_fused_by_the_patterns_of_bart(tmp_path: Path) -> None:
    outcome = run_pass(
        "ort_transformers_optimizer", exported(), tmp_path, model_type="bart", components=("encoder",)
    )
    fused = outcome.did["components"]["encoder"]["fused"]
    assert fused["BiasGelu"] == 3
    found = operators(graph(outcome.artifact, "encoder"))
    assert all(found[op] >= count for op, count in fused.items())
    assert outcome.artifact.components["decoder"] == exported().components["decoder"]


def test_nothing_fused_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="nothing was fused by the patterns of 'bert'") as caught:
        run_pass("ort_transformers_optimizer", exported(), tmp_path, components=("mel",))
    assert "model_type" in caught.value.fix


def test_heads_must_divide_the_hidden_size(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="5 heads do not divide a hidden size of 64"):
        run_pass("ort_transformers_optimizer", exported(), tmp_path, heads=5, hidden_size=64)


def test_a_component_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="no ONNX component 'enoder'"):
        run_pass("ort_transformers_optimizer", exported(), tmp_path, components=("enoder",))
