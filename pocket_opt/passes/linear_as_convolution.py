"""Linear layers as 1x1 convolutions, the form in which some NPUs have their fastest kernels.

Applies to exported graphs in floats, before they are quantized; nothing is lost. The product of [batch, rows, in] with
a matrix [in, out] becomes Transpose, Conv with the kernel [out, in, 1], Transpose, and the bias goes into the
convolution. Not a part of any level: on the sample model Qualcomm's compiler (HTP v79) makes of it 3 % less for the
encoder and 9 % more for the decoder, and its simulator takes half as long again. A simulator's time is not the chip's,
so measure on the device: `nodes.convolutions={pass: linear_as_convolution, after: export}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST_DB = 100.0
"""Agreement with the input on random data: only the order of additions differs."""
LAST_TWO = [0, 2, 1]


@dataclass(frozen=True)
class LinearAsConvolutionParams:
    """Which layers.

    Attributes:
        components: graphs of the artifact; "*" stands for all that have linear layers.
        include, exclude: shell-style patterns for names of layers.
    """

    components: tuple[str, ...] = ("*",)
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


class LinearAsConvolution(Pass[LinearAsConvolutionParams]):
    """Rewrites MatMul, and the Add of its bias."""

    version = 1
    Params = LinearAsConvolutionParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def requires(self, inputs: Inputs, params: LinearAsConvolutionParams) -> None:
        """The graphs exist, and each pattern matches one of their layers."""
        from pocket_opt.onnx_graphs.files import require_linear_layers
        from pocket_opt.onnx_graphs.layers import named

        named_patterns = [pattern for pattern in (*params.include, *params.exclude) if pattern != "*"]
        require_linear_layers(inputs["model"], named(inputs["model"], params.components), named_patterns)

    def run(
        self, inputs: Inputs, params: LinearAsConvolutionParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other; counts of layers and of biases taken in."""
        from pocket_opt.onnx_graphs.files import rewrite
        from pocket_opt.onnx_graphs.layers import named

        components = named(inputs["model"], params.components)
        return rewrite(inputs["model"], components, workdir, lambda graph: _convolve(graph, params), progress)

    def ensures(self, inputs: Inputs, params: LinearAsConvolutionParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Structure, ports and weights are right; the answers are as before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, tuple(outcome.did["components"]), least_db=LEAST_DB)


def _convolve(graph: ir.Graph, params: LinearAsConvolutionParams) -> dict[str, Any]:
    """Rewrite the chosen layers of `graph` in place; how many, and which others were left."""
    from pocket_opt.onnx_graphs.files import choose_linear_layers
    from pocket_opt.onnx_graphs.static_values import complete

    complete(graph)
    chosen, left_out = choose_linear_layers(graph, params.include, params.exclude)
    rows = [node for node in chosen if _is_of_rows(node)]
    if flat := [node.name or "" for node in chosen if not _is_of_rows(node)]:
        left_out["its input is not [batch, rows, in]"] = flat
    biases = sum(_as_convolution(graph, node) for node in rows)
    return {"tensors": len(rows), "biases_taken_in": biases, "left_out": left_out}


def _is_of_rows(node: ir.Node) -> bool:
    """Whether the left side has three dimensions."""
    value = node.inputs[0]
    return value is not None and value.shape is not None and len(value.shape) == len(LAST_TWO)


def _as_convolution(graph: ir.Graph, node: ir.Node) -> bool:
    """Put a convolution in the place of the layer `node`; whether it took a bias in."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import add_initializer, constant, module_of, new_node, replace_node

    matrix, bias, last = node.inputs[1], _bias(node), node
    assert matrix is not None
    name = f"{matrix.name}.kernel"
    kernel = graph.initializers.get(name) or add_initializer(
        graph, name, np.ascontiguousarray(constant(matrix).T[:, :, None])
    )
    module, inputs = module_of(node), [kernel]
    if bias is not None:
        last, shift = bias
        inputs.append(shift)
    columns = new_node(module, "Transpose", [node.inputs[0]], {"perm": LAST_TWO}, suffix="_in")
    convolution = new_node(module, "Conv", [columns.outputs[0], *inputs], {"kernel_shape": [1]})
    rows = new_node(module, "Transpose", convolution.outputs, {"perm": LAST_TWO}, suffix="_out")
    replace_node(last, [columns, convolution, rows])
    if last is not node:
        graph.remove(node, safe=True)
    return bias is not None


def _bias(node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The Add that is all that reads `node`, and the constant vector that it adds; None where there is none."""
    from pocket_opt.onnx_graphs.files import constant, is_constant

    assert node.inputs[1] is not None
    readers, width = list(node.outputs[0].consumers()), constant(node.inputs[1]).shape[1]
    if len(readers) != 1 or readers[0].op_type != "Add" or node.outputs[0].is_graph_output():
        return None
    for value in readers[0].inputs:
        if value is not None and is_constant(value) and constant(value).shape == (width,):
            return readers[0], value
    return None


PASS = LinearAsConvolution()
