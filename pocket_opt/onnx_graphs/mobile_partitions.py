"""Which nodes the accelerators of phones could take, by the lists of operators that ONNX Runtime ships and documents.

An estimate before a phone is at hand: an accelerator may still refuse a node for its shapes or attributes. NNAPI and
Core ML take fixed shapes well and others badly, so both cases are counted. Sources: onnxruntime.tools.mobile_helpers;
ONNX Runtime documentation, "XNNPACK execution provider".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from pocket_opt.onnx_graphs.files import is_constant, load

XNNPACK = frozenset(
    {"AveragePool", "Conv", "ConvTranspose", "MatMul", "MaxPool", "Resize", "Softmax"}
    | {"QLinearAveragePool", "QLinearConv", "QLinearConvTranspose", "QLinearSoftmax"}
)
"""Operators with a kernel there, for floats or QDQ; of MatMul only with a constant right side."""
LEAST_SHARE = 75.0
"""% of the nodes, in one piece, from which ONNX Runtime's own advice is to try an accelerator."""


def partitions(path: Path) -> dict[str, dict[str, Any]]:
    """Accelerator -> `nodes` of the graph, how many of them it knows (`taken`), in how many `pieces`, and `advice`."""
    from onnxruntime.tools.mobile_helpers import usability_checker as checker

    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    fixed = checker.check_nnapi_partitions(model, True)
    found = {
        "nnapi": _told(checker.check_nnapi_partitions(model, False)),
        "nnapi_fixed_shapes": _told(fixed),
        "coreml": _told(checker.check_coreml_partitions(model, False, "coreml_supported_mlprogram_ops.md")),
    }
    nodes = list(load(path).graph)
    taken = [node for node in nodes if node.op_type in XNNPACK and _is_taken(node)]
    return {**found, "xnnpack": {"nodes": len(nodes), "taken": len(taken), "advice": "runs piece by piece"}}


def _told(info: Any) -> dict[str, Any]:
    share = 100 * info.num_supported_nodes / max(info.num_nodes, 1)
    fits = share >= LEAST_SHARE and info.num_partitions == 1
    return {
        "nodes": info.num_nodes,
        "taken": info.num_supported_nodes,
        "pieces": info.num_partitions,
        "unknown": sorted(info.unsupported_ops),
        "advice": "try it" if fits else "the CPU will be faster",
    }


def _is_taken(node: Any) -> bool:
    right = node.inputs[1] if len(node.inputs) > 1 else None
    return node.op_type != "MatMul" or (right is not None and is_constant(right))
