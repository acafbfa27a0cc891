"""The tied embedding: one quantized copy, read by the lookup and by the output head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from exported_whisper import VOCAB, WIDTH, after_load, digests, exported, graph, operators, outputs, run_pass

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
from pocket_opt.onnx_graphs.files import save, sqnr_db
from pocket_opt.precision import Rule

TABLE = "model.decoder.embed_tokens.weight"


def table() -> np.ndarray:
    """The float32 embedding [vocab, d_model]."""
    found: np.ndarray = graph(exported(), "decoder").initializers[TABLE].const_value.numpy()
    return found


@pytest.mark.parametrize("decoder", ["kv_cache", "basic"])
@pytest.mark.parametrize(("bits", "least"), [(8, 30), (4, 8)])
def test_answers_stay_close_through_lookup_and_head(
    tmp_path: Path, decoder: str, bits: int, least: float
) -> None:
    outcome = run_pass("quantize_embedding", exported(decoder), tmp_path, bits=bits)
    for old, new in zip(
        outputs(exported(decoder), "decoder"), outputs(outcome.artifact, "decoder"), strict=True
    ):
        assert sqnr_db(old, new) > least
    assert outcome.artifact.components == exported(decoder).components
    did = outcome.did["components"]["decoder"]
    assert (did["table"], did["shape"], did["readers"]) == (TABLE, [VOCAB, WIDTH], 2)


def test_the_file_holds_one_copy(tmp_path: Path) -> None:
    outcome = run_pass("quantize_embedding", exported(), tmp_path, block_size=64)
    saved = exported().size("decoder") - outcome.artifact.size("decoder")
    assert saved == pytest.approx(VOCAB * WIDTH * 3 - VOCAB * 4, abs=1000)
    nodes = graph(outcome.artifact, "decoder")
    readers = [node.op_type for node in nodes.initializers[f"{TABLE}.q8"].consumers()]
    assert sorted(readers) == ["GatherBlockQuantized", "MatMulNBits"]
    assert TABLE not in nodes.initializers


def test_a_loaded_graph_reads_that_copy_directly(tmp_path: Path) -> None:
    artifact = run_pass("quantize_embedding", exported(), tmp_path).artifact
    before, loaded = after_load(exported(), "decoder", tmp_path), after_load(artifact, "decoder", tmp_path)
    assert loaded - before == {"GatherBlockQuantized": 1, "MatMulNBits": 1, "Reshape": 1}
    assert before - loaded == {"Gather": 1, "MatMul": 1}


@pytest.mark.parametrize(("bits", "block_size"), [(8, 32), (8, 64), (4, 16), (4, 32)])
def test_rows_are_exactly_those_of_the_head(tmp_path: Path, bits: int, block_size: int) -> None:
    artifact = run_pass(
        "quantize_embedding",
        only_embedding(tmp_path / "in"),
        tmp_path / "out",
        bits=bits,
        block_size=block_size,
        accuracy_level=0,
    ).artifact
    session = onnxruntime.InferenceSession(artifact.path("decoder"), providers=["CPUExecutionProvider"])
    tokens = np.array([[0, VOCAB - 1, 7], [7, 7, 1]])
    rows, logits = session.run(None, {"tokens": tokens})
    restored = quantize_blocks(table(), bits=bits, block_size=block_size).dequantize()
    assert np.array_equal(rows, restored[tokens])
    assert np.allclose(logits, restored[tokens] @ restored.T, atol=1e-4)


def only_embedding(workdir: Path) -> Artifact:
    """A graph that looks tokens up and multiplies what it found by the same table."""
    tokens = ir.val("tokens", ir.DataType.INT64, ("batch", "length"))
    nodes = ir.Graph((tokens,), (), nodes=(), opset_imports={"": 20}, name="decoder")
    weight = ir.Value(
        name=TABLE,
        shape=ir.Shape(table().shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(table(), name=TABLE),
    )
    nodes.register_initializer(weight)
    rows = ir.node("Gather", [weight, tokens], {"axis": 0}, name="decoder.embed_tokens/Gather")
    turned = ir.node("Transpose", [weight], {"perm": [1, 0]}, name="proj_out/Transpose")
    logits = ir.node("MatMul", [rows.outputs[0], turned.outputs[0]], name="proj_out/MatMul")
    nodes.extend([rows, turned, logits])
    for node, name, width in ((rows, "rows", WIDTH), (logits, "logits", VOCAB)):
        value = node.outputs[0]
        value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, ir.Shape(("batch", "length", width))
        nodes.outputs.append(value)
    part: Component = save(ir.Model(nodes, ir_version=10), workdir, "decoder.onnx")
    return Artifact(workdir, {"decoder": part})


def test_the_rest_can_be_quantized_and_halved_in_any_order(tmp_path: Path) -> None:
    embedded = run_pass("quantize_embedding", exported(), tmp_path / "1").artifact
    first = run_pass("weight_only", embedded, tmp_path / "2").artifact
    layers = run_pass("weight_only", exported(), tmp_path / "3").artifact
    second = run_pass("quantize_embedding", layers, tmp_path / "4").artifact
    assert operators(graph(first, "decoder")) == operators(graph(second, "decoder"))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(outputs(first, "decoder"), outputs(second, "decoder"), strict=True)
    )
    halved = run_pass("store_fp16", second, tmp_path / "5").artifact
    assert halved.size("decoder") < 0.35 * exported().size("decoder")


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (run_pass("quantize_embedding", exported(), tmp_path / name).artifact for name in "ab")
    assert digests(first) == digests(second)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"block_size": 128}, f"'{TABLE}', which have 64 features\n.*\n.*16, 32, 64"),
        ({"components": ("encoder",)}, "'encoder' has no embedding that the output head shares"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(PocketOptError, match=message):
        run_pass("quantize_embedding", exported(), tmp_path, **params)


def test_a_table_that_is_stored_as_fp16_is_refused_with_the_order(tmp_path: Path) -> None:
    halved = run_pass("store_fp16", exported(), tmp_path / "1").artifact
    with pytest.raises(PocketOptError, match="run it before store_fp16"):
        run_pass("quantize_embedding", halved, tmp_path / "2")


def test_an_override_chooses_the_form_of_the_table(tmp_path: Path) -> None:
    rules = (
        Rule("*", bits=8, symmetric=False),
        Rule("*.embed_tokens", bits=4, block_size=16, algorithm="k_quant"),
    )
    did = run_pass("quantize_embedding", exported(), tmp_path / "1", overrides=rules).did
    assert did["components"]["decoder"]["bits"] == 4
    better = did["components"]["decoder"]["sqnr_db"]
    plain = run_pass("quantize_embedding", exported(), tmp_path / "2", bits=4, block_size=16).did
    assert better > plain["components"]["decoder"]["sqnr_db"]
    with pytest.raises(PocketOptError, match="a form that the embedding cannot have.*\n.*override '\\*'"):
        run_pass("quantize_embedding", exported(), tmp_path / "3", overrides=rules[:1])


def test_tokens_of_unknown_rank_are_refused(tmp_path: Path) -> None:
    source = only_embedding(tmp_path / "1")
    model = ir.load(source.path("decoder"))
    tokens = model.graph.inputs[0]
    same = ir.node("Identity", [tokens], name="tokens/Identity")
    tokens.replace_all_uses_with(same.outputs[0])
    same.replace_input_with(0, tokens)
    model.graph.insert_before(model.graph[0], same)
    unranked = Artifact(tmp_path, {"decoder": save(model, tmp_path, "decoder.onnx")})
    with pytest.raises(
        PocketOptError, match=r"the rank of the tokens is unknown\n.*decoder.embed_tokens/Gather"
    ):
        run_pass("quantize_embedding", unranked, tmp_path / "2")
