"""What the NPU cannot take of a graph, found before any work: operators, number types, dimensions.

The table holds the operators that the QNN provider has a translation for (onnxruntime-qnn 2.7, its operator builders);
whether a certain use of one is taken, only the compiler knows, and `compilation` names what it left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import load

_ELEMENTWISE = """
Abs Add And Asin Atan Cast Ceil Clip Cos Div Elu Equal Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish
IsInf LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid
Sign Sin Softplus Sqrt Sub Sum Tan Tanh ThresholdedRelu Where Xor
"""
_OTHER = """
ArgMax ArgMin AveragePool BatchNormalization Concat Conv ConvTranspose CumSum DepthToSpace DequantizeLinear Einsum
Expand Flatten GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool GridSample Identity
InstanceNormalization LRN LSTM LayerNormalization LogSoftmax LpNormalization LpPool MatMul MaxPool OneHot Pad
QuantizeLinear ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Resize RMSNormalization
ScatterElements ScatterND Slice Softmax SpaceToDepth Split Squeeze Tile TopK Transpose Unsqueeze Upsample
"""
OPERATORS = frozenset((*_ELEMENTWISE.split(), *_OTHER.split(), "Constant"))
"""Of the standard domain; a Constant is folded when the graph is opened."""

MOST_DIMENSIONS = 5
TYPES = "FLOAT FLOAT16 INT64 INT32 INT16 INT8 INT4 UINT32 UINT16 UINT8 UINT4 BOOL"
REMEDY = {
    "operator": "replace it by operators that the NPU has, or set nodes.compile.params.allow_fallback=true",
    "type": "use float32, float16 or integers, or set nodes.compile.params.allow_fallback=true",
    "shape": "export with decoder=static, or fix the dimension",
    "rank": f"reshape it to at most {MOST_DIMENSIONS} dimensions, or set nodes.compile.params.allow_fallback=true",
}


def require_fitness(artifact: Artifact, graphs: Collection[str], *, allow_fallback: bool = False) -> None:
    """Raise PocketOptError naming the first node that the NPU cannot take, and how many more there are.

    Args:
        allow_fallback: the CPU may take what the NPU cannot; shapes must be fixed all the same.
    """
    for name in graphs:
        found = list(misfits(load(artifact.path(name)).graph))
        if allow_fallback:
            found = [one for one in found if one[0] == "shape"]
        if found:
            kind, place, what = found[0]
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise PocketOptError(
                f"the NPU cannot take graph '{name}': {what}", where=place + more, fix=REMEDY[kind]
            )


def misfits(graph: ir.Graph) -> Iterator[tuple[str, str, str]]:
    """(kind, place, what) of everything that the NPU cannot take; kinds are those of REMEDY."""
    for port in (*graph.inputs, *graph.outputs):
        if port.shape is None or not port.shape.is_static():
            yield "shape", f"port {port.name}", f"a dimension is not fixed: {port.shape}"
    for node in graph:
        place = f"node {node.name} ({node.op_type})"
        if node.domain or node.op_type not in OPERATORS:
            yield (
                "operator",
                place,
                f"it has no operator {node.domain + '.' if node.domain else ''}{node.op_type}",
            )
        for value in (*node.inputs, *node.outputs):
            if value is not None:
                yield from _of_value(value, place)


def _of_value(value: ir.Value, place: str) -> Iterator[tuple[str, str, str]]:
    if value.dtype is not None and value.dtype.name not in TYPES.split():
        yield "type", place, f"it has no numbers of the type {value.dtype.name.lower()} ({value.name})"
    if value.shape is not None and len(value.shape) > MOST_DIMENSIONS:
        yield "rank", place, f"{value.name} has {len(value.shape)} dimensions"
