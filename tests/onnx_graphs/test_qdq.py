"""QDQ graphs: every kind of constant is stored as its operator needs it, and bits change where operators' bits differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from pocket_opt.models.whisper.graph_builder import GraphBuilder, shaped
from pocket_opt.onnx_graphs import qdq_constants
from pocket_opt.onnx_graphs.files import Array, constant, sqnr_db
from pocket_opt.onnx_graphs.qdq import quantize
from pocket_opt.onnx_graphs.ranges import Grid
from pocket_opt.onnx_graphs.static_precision import Precision, Scheme
from pocket_opt.onnx_graphs.static_values import complete
from pocket_opt.onnx_graphs.writing import save_model

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> ir.TensorProtocol:
    return ir.tensor(RANDOM.standard_normal(shape).astype(np.float32))


def model() -> ir.Model:
    """A convolution, a GELU and a Gemm with biases; `new_key_0` is a cache, `found` is not."""
    graph = GraphBuilder("small")
    x = graph.input("x", ir.DataType.FLOAT, (1, 6, 10))
    weights = {name: normal(*shape) for name, shape in SHAPES.items()}
    value = {name: graph.weight(name, tensor) for name, tensor in weights.items()}
    with graph.scope("conv"):
        y = graph.op("Conv", x, value["w1"], value["b1"], kernel_shape=[3], pads=[1, 1])
    with graph.scope("act"):
        y = graph.op("Gelu", y)
    with graph.scope("flat"):
        y = graph.op("Reshape", y, graph.ints(1, 80))
    with graph.scope("gemm"):
        y = graph.op("Gemm", y, value["w2"], value["b2"], transB=1)
    graph.output(shaped(y, (1, 5)), "new_key_0", (1, 5))
    with graph.scope("norm"):
        z = graph.op("LayerNormalization", y, value["s"], value["b2"], axis=-1)
    graph.output(z, "found", (1, 5))
    return graph.build()


SHAPES = {"w1": (8, 6, 3), "b1": (8,), "w2": (5, 80), "b2": (5,), "s": (5,)}
REACH = {"x": 5.0, "found": 4.0, "new_key_0": 90.0}


def precision(node: ir.Node) -> Precision:
    """8 bits for linear layers, 16 for the rest, the norm float."""
    if node.op_type == "LayerNormalization":
        return Precision(None, 8)
    return Precision(8, 4) if node.op_type == "Gemm" else Precision(16, 8)


def run(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_biases_scales_and_bits_are_those_of_their_operators(tmp_path: Path) -> None:
    exact = model()
    save_model(exact, tmp_path / "exact.onnx")
    graph = complete(exact.graph)

    def grid(name: str, bits: int) -> Grid:
        return Grid.over(-REACH.get(name, 30.0), REACH.get(name, 30.0), bits)

    report = quantize(graph, Scheme(precision, 16, 16, grid))
    save_model(exact, tmp_path / "rounded.onnx")
    assert report["weights"] == {"int32": 2, "int4": 1, "int8": 1}
    assert report["tensors"] == 4
    assert report["activations"] == {"uint16": 5, "uint8": 2}
    assert report["nodes"] == 4
    stored = {name: constant(value) for name, value in graph.initializers.items()}
    assert stored["w1.w8.scale"].shape == (8,)
    assert stored["w2.w4.scale"].shape == (5,)
    assert np.allclose(stored["b2.gemm.b32.scale"], stored["w2.w4.scale"] * grid("flat", 8).scale)
    bias = constant(ir.load(tmp_path / "exact.onnx").graph.initializers["b1"])
    assert np.allclose(stored["b1.conv.b32"] * stored["b1.conv.b32.scale"], bias, atol=1e-5)
    feeds = {"x": RANDOM.standard_normal((1, 6, 10)).astype(np.float32)}
    before, after = run(tmp_path / "exact.onnx", feeds), run(tmp_path / "rounded.onnx", feeds)
    assert after["new_key_0"].dtype == np.uint16
    cache = grid("new_key_0", 16)
    levels = (after["new_key_0"].astype(np.float32) - cache.zero_point) * cache.scale
    assert sqnr_db(before["new_key_0"], levels) > 15
    assert sqnr_db(before["found"], after["found"]) > 12


def test_norms_with_scales_in_8_bits_add_in_32(tmp_path: Path) -> None:
    exact = model()
    save_model(exact, tmp_path / "exact.onnx")

    def grid(name: str, bits: int) -> Grid:
        return Grid.over(-REACH.get(name, 30.0), REACH.get(name, 30.0), bits)

    scheme = Scheme(lambda _: Precision(16, 8), 16, 8, grid)
    assert quantize(complete(exact.graph), scheme)["weights"] == {"int32": 3, "int8": 2, "uint8": 1}
    save_model(exact, tmp_path / "rounded.onnx")
    feeds = {"x": RANDOM.standard_normal((1, 6, 10)).astype(np.float32)}
    before, after = run(tmp_path / "exact.onnx", feeds), run(tmp_path / "rounded.onnx", feeds)
    assert sqnr_db(before["found"], after["found"]) > 30


@pytest.mark.parametrize("width", [128, 1024])
def test_4_bit_scales_are_those_of_the_least_error(width: int) -> None:
    weight = RANDOM.standard_normal((width, 8)).astype(np.float32)
    peak = np.abs(weight).max(axis=0, keepdims=True) / 7
    fitted = qdq_constants.fitted_scales(weight, (0,), 7)
    rounded = [np.clip(np.rint(weight / scale), -7, 7) * scale for scale in (peak, fitted)]
    assert sqnr_db(weight, rounded[1]) > sqnr_db(weight, rounded[0]) + 0.5
    assert np.array_equal(
        qdq_constants.fitted_scales(weight, (0,), 127), np.abs(weight).max(axis=0, keepdims=True) / 127
    )
