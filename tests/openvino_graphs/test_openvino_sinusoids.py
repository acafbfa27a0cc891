"""Positions that OpenVINO computes: the published table, folded when the model is compiled."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from pocket_opt.onnx_graphs.sinusoids import sinusoids
from pocket_opt.openvino_graphs.sinusoids import computed


@pytest.mark.parametrize("shape", [(1500, 384), (200, 128), (1500, 1280)])
def test_the_table_is_computed_once(shape: tuple[int, int]) -> None:
    x = ops.parameter(list(shape), np.float32)
    model = ov.Model([ops.add(x, computed(shape))], [x])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"].value for node in compiled.get_runtime_model().get_ordered_ops()]
    assert [kind for kind in kinds if kind not in ("Eltwise", "Subgraph")] == ["Input", "Const", "Output"]
    np.testing.assert_allclose(compiled(np.zeros(shape, np.float32))[0], sinusoids(*shape), atol=3e-4)
