from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from transformers.models.whisper.modeling_whisper import sinusoids as original

from pocket_opt.onnx_graphs.sinusoids import computed, is_sinusoidal, sinusoids


@pytest.mark.parametrize("shape", [(1500, 384), (200, 64), (1500, 1280)])
def test_published_tables_are_recognized_also_rounded(shape: tuple[int, int]) -> None:
    table = original(*shape).numpy()
    assert is_sinusoidal(table)
    assert is_sinusoidal(table.astype(np.float16).astype(np.float32))
    assert not is_sinusoidal(table + 1e-3)
    assert not is_sinusoidal(table[:, ::-1])


@pytest.mark.parametrize("shape", [(10, 3), (10, 2), (4,), (2, 3, 4)])
def test_other_shapes_are_none(shape: tuple[int, ...]) -> None:
    assert not is_sinusoidal(np.zeros(shape, np.float32))


def test_the_graph_computes_the_table() -> None:
    zero = helper.make_node("Add", ["x", "table"], ["y"])
    ports = [helper.make_tensor_value_info(name, 1, [200, 64]) for name in "xy"]
    weight = numpy_helper.from_array(np.zeros((200, 64), np.float32), "table")
    proto = helper.make_model(
        helper.make_graph([zero], "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    graph = (model := ir.from_proto(proto)).graph
    nodes = computed(graph, "positions", (200, 64))
    graph.initializers["table"].replace_all_uses_with(nodes[-1].outputs[0])
    graph.insert_before(graph[0], nodes)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (found,) = session.run(None, {"x": np.zeros((200, 64), np.float32)})
    np.testing.assert_allclose(found, sinusoids(200, 64), atol=1e-7)
