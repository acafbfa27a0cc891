"""Opening, editing and saving ONNX components."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from exported_whisper import LINEAR, digests, exported, graph, outputs, run_pass

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.onnx_graphs import files as onnx_files
from pocket_opt.onnx_graphs.files import constant, load
from pocket_opt.onnx_graphs.writing import save_model


def with_external_weights(workdir: Path) -> Artifact:
    """The exported artifact with the decoder's weights in a second file."""
    carried = exported().carry(workdir, without=("decoder",))
    ir.save(ir.load(exported().path("decoder")), workdir / "decoder.onnx", external_data="decoder.onnx.data")
    old = exported().components["decoder"]
    files = ("decoder.onnx", "decoder.onnx.data")
    return carried.with_component("decoder", Component("onnx", files, old.inputs, old.outputs))


def test_weights_in_a_second_file_are_read_and_written_in_one(tmp_path: Path) -> None:
    source = with_external_weights(tmp_path / "source")
    assert source.path("decoder").stat().st_size < 60_000
    found = run_pass("weight_only", source, tmp_path / "found", components=("decoder",)).artifact
    assert found.components["decoder"].files == ("decoder.onnx",)
    expected = run_pass("weight_only", exported(), tmp_path / "expected", components=("decoder",)).artifact
    assert digests(found) == digests(expected)


def test_a_rewrite_leaves_its_input_alone_and_links_the_rest(tmp_path: Path) -> None:
    before = digests(exported())
    found = onnx_files.rewrite(exported(), ("encoder",), tmp_path, _negate_biases).artifact
    assert digests(exported()) == before
    assert found.path("mel").stat().st_ino == exported().path("mel").stat().st_ino
    assert found.path("encoder").stat().st_ino != exported().path("encoder").stat().st_ino
    assert found.components == exported().components
    assert not np.array_equal(outputs(found, "encoder")[0], outputs(exported(), "encoder")[0])


def _negate_biases(nodes: ir.Graph) -> dict[str, int]:
    biases = [value for value, _ in onnx_files.parameters(nodes) if str(value.name).endswith("bias")]
    for value in biases:
        value.const_value = ir.tensor(-onnx_files.constant(value), name=value.name)
    return {"tensors": len(biases)}


def test_a_report_has_sums_and_components(tmp_path: Path) -> None:
    did = onnx_files.rewrite(exported(), ("encoder", "decoder"), tmp_path, _negate_biases).did
    parts = did["components"]
    assert did["tensors"] == parts["encoder"]["tensors"] + parts["decoder"]["tensors"] > 0
    assert (
        did["bytes_before"] == exported().size("encoder") + exported().size("decoder") == did["bytes_after"]
    )


def test_progress_is_reported_by_graph(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    onnx_files.rewrite(
        exported(), ("encoder", "decoder"), tmp_path, _negate_biases, lambda *call: calls.append(call)
    )
    assert calls == [(1, 2, "graphs"), (2, 2, "graphs")]


def test_a_rewrite_that_changes_nothing_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="nothing could be changed in component 'encoder'"):
        onnx_files.rewrite(
            exported(), ("encoder",), tmp_path, lambda _: {"tensors": 0, "left_out": {"why": ["x"]}}
        )


def test_saving_drops_what_nothing_reads_and_makes_names_unique(tmp_path: Path) -> None:
    model = onnx_files.load(exported().path("encoder"))
    onnx_files.add_initializer(model.graph, "unused", np.zeros(1000, np.float32))
    model.graph.opset_imports["ai.example"] = 1
    first, second = model.graph[0], model.graph[1]
    second.name = first.name
    part = onnx_files.save(model, tmp_path, "sub/encoder.onnx")
    assert part.files == ("sub/encoder.onnx",)
    saved = ir.load(tmp_path / "sub/encoder.onnx").graph
    assert "unused" not in saved.initializers
    assert "ai.example" not in saved.opset_imports
    assert max(Counter(node.name for node in saved).values()) == 1


def test_an_initializer_is_not_overwritten() -> None:
    nodes = graph(exported(), "encoder")
    taken = next(iter(nodes.initializers))
    with pytest.raises(ValueError, match="already"):
        onnx_files.add_initializer(nodes, taken, np.zeros(1))


def test_only_initializers_are_constant() -> None:
    nodes = graph(exported(), "decoder")
    weight = nodes.initializers["model.decoder.embed_tokens.weight"]
    assert onnx_files.is_constant(weight)
    assert not onnx_files.is_constant(nodes.inputs[0])
    assert not onnx_files.is_constant(None)
    with pytest.raises(ValueError, match="not an initializer"):
        onnx_files.constant(nodes.inputs[0])


def test_an_initializer_that_callers_may_replace_is_no_weight() -> None:
    nodes = graph(exported(), "decoder")
    layer = onnx_files.linear_layers(nodes)[0]
    weight = layer.inputs[1]
    assert weight is not None
    nodes.inputs.append(weight)
    assert layer not in onnx_files.linear_layers(nodes)
    assert weight not in [value for value, _ in onnx_files.parameters(nodes)]


@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_linear_layers_are_told_from_products_of_activations(component: str) -> None:
    nodes = graph(exported(), component)
    assert len(onnx_files.linear_layers(nodes)) == LINEAR[component]
    chosen, left_out = onnx_files.choose_linear_layers(nodes, ("*attn*",), ("*q_proj*",))
    assert all("attn" in str(node.name) and "q_proj" not in str(node.name) for node in chosen)
    products = sum(node.op_type == "MatMul" for node in nodes)
    assert len(chosen) + sum(len(names) for names in left_out.values()) == products


def test_a_node_knows_its_module() -> None:
    assert onnx_files.module_of(ir.node("Add", [], name="encoder.layers.0.fc1/Add")) == "encoder.layers.0.fc1"
    assert onnx_files.module_of(ir.node("Add", [], name="sum")) == "sum"
    assert onnx_files.module_of(ir.node("Add", [])) == "Add"


def test_a_pattern_that_matches_nothing_lists_names() -> None:
    names = [f"layer.{i}" for i in range(9)]
    onnx_files.require_matches(names, ("layer.?",), "include")
    with pytest.raises(PocketOptError) as raised:
        onnx_files.require_matches(names, ("layer.?", "Layer.*"), "include")
    assert str(raised.value).splitlines()[:3] == [
        "the pattern 'Layer.*' matches nothing",
        "  where:   parameter include",
        "  allowed: shell-style patterns for layer.0, layer.1, layer.2, layer.3, layer.4, layer.5 and 3 more",
    ]


def test_an_artifact_without_graphs_is_told_to_export() -> None:
    with pytest.raises(PocketOptError, match="export the model first"):
        onnx_files.require_graphs(Artifact(Path(), {"model": Component("transformers", ())}), ("encoder",))


def test_noise_is_measured_in_decibels() -> None:
    signal = np.array([3.0, 4.0])
    assert onnx_files.sqnr_db(signal, signal * 1.1) == pytest.approx(20)
    assert onnx_files.sqnr_db(signal, signal) == float("inf")
    assert onnx_files.sqnr_db(np.zeros(2), signal) < -500


def external_model(directory: Path) -> Path:
    """x @ table, the table in a file of its own, which has a second hard link, as files of the store have."""
    graph = GraphBuilder("g")
    x = graph.input("x", ir.DataType.FLOAT, ("batch", 200))
    table = ir.tensor(np.arange(40_000, dtype=np.float32).reshape(200, 200))
    with graph.scope("fc"):
        y = graph.op("MatMul", x, graph.weight("table", table))
    graph.output(y, "y", ("batch", 200))
    save_model(graph.build(), directory / "m.onnx", external_over=0)
    os.link(directory / "m.onnx.data", directory / "another")
    return directory / "m.onnx"


def test_external_weights_with_several_links_can_be_read_and_written_again(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    model = load(path)
    weight = constant(model.graph.initializers["table"])
    np.testing.assert_array_equal(weight, np.arange(40_000, dtype=np.float32).reshape(200, 200))
    (tmp_path / "again").mkdir()
    assert len(save_model(model, tmp_path / "again" / "m.onnx", external_over=0)) == 2
    again = constant(load(tmp_path / "again" / "m.onnx").graph.initializers["table"])
    np.testing.assert_array_equal(again, weight)


@pytest.mark.parametrize("location", ["../m.onnx.data", "/etc/hostname"])
def test_external_weights_lie_beside_the_model(tmp_path: Path, location: str) -> None:
    (tmp_path / "model").mkdir()
    path = external_model(tmp_path / "model")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(PocketOptError, match="outside the model's directory"):
        load(path)
