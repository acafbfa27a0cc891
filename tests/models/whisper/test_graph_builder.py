from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped


def test_nodes_are_named_after_their_module() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", ir.DataType.FLOAT, ("batch", 4))
    with graph.scope("encoder"), graph.scope("layers.0") as module:
        first, second = graph.op("Relu", x), graph.op("Relu", x)
    assert module == "encoder.layers.0"
    producers = [value.producer() for value in (first, second)]
    assert [node.name for node in producers if node] == ["encoder.layers.0/Relu", "encoder.layers.0/Relu_1"]
    assert first.name == "encoder.layers.0/Relu_output"
    assert graph.module == ""


def test_equal_constants_are_stored_once() -> None:
    graph = GraphBuilder("g")
    assert graph.ints(0, -1) is graph.ints(0, -1)
    assert graph.ints(0) is not graph.ints(1)
    first = graph.constant("table", np.zeros(3, np.float32))
    assert graph.constant("table", np.ones(3, np.float32)) is first


def test_shapes_are_stated() -> None:
    value = shaped(ir.val("x"), ("batch", "length", 8))
    assert shape_of(value) == ("batch", "length", 8)
    with pytest.raises(ValueError, match="no stated shape"):
        shape_of(ir.val("y"))
