"""The rules on small graphs written by hand: what they leave alone, and why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from pocket_opt.models.whisper.fusion import Rule, fuse_bias_gelu, fuse_skip_layer_norm
from pocket_opt.models.whisper.fusion_attention import fuse_attention
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shaped

Graph = ir.Graph
SHAPE = ("batch", "length", 8)


class Sketch:
    """A graph over `x` [batch, length, 8] with a constant square matrix and a vector."""

    def __init__(self) -> None:
        self.graph = GraphBuilder("g")
        self.x = self.graph.input("x", ir.DataType.FLOAT, SHAPE)
        self.matrix = self.graph.constant("matrix", np.eye(8, dtype=np.float32))
        self.vector = self.graph.constant("vector", np.ones(8, np.float32))

    def op(self, op_type: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        return shaped(self.graph.op(op_type, *inputs, **attributes), SHAPE)

    def projection(self) -> ir.Value:
        return self.op("Add", self.op("MatMul", self.x, self.matrix), self.vector)

    def heads(self, x: ir.Value) -> ir.Value:
        return self.op("Transpose", self.op("Reshape", x, self.graph.ints(0, 0, 2, 4)), perm=[0, 2, 1, 3])

    def joined(self, x: ir.Value) -> ir.Value:
        return self.op("Reshape", self.op("Transpose", x, perm=[0, 2, 1, 3]), self.graph.ints(0, 0, 8))

    def finish(self, *outputs: ir.Value) -> Graph:
        for number, value in enumerate(outputs):
            self.graph.output(value, f"y{number}", SHAPE)
        return self.graph.build().graph


def approximate_gelu(sketch: Sketch) -> Graph:
    return sketch.finish(sketch.op("Gelu", sketch.projection(), approximate="tanh"))


def gelu_of_an_input(sketch: Sketch) -> Graph:
    return sketch.finish(sketch.op("Gelu", sketch.x))


def gelu_of_a_sum_that_is_read_twice(sketch: Sketch) -> Graph:
    total = sketch.projection()
    return sketch.finish(sketch.op("Gelu", total), sketch.op("Relu", total))


def gelu_with_a_matrix_as_bias(sketch: Sketch) -> Graph:
    product = sketch.op("MatMul", sketch.x, sketch.matrix)
    return sketch.finish(sketch.op("Gelu", sketch.op("Add", product, sketch.matrix)))


def norm_of_an_input(sketch: Sketch) -> Graph:
    return sketch.finish(sketch.op("LayerNormalization", sketch.x, sketch.vector, sketch.vector))


def norm_of_a_broadcast_sum(sketch: Sketch) -> Graph:
    total = sketch.op("Add", sketch.x, sketch.matrix)
    return sketch.finish(sketch.op("LayerNormalization", total, sketch.vector, sketch.vector))


def softmax_alone(sketch: Sketch) -> Graph:
    return sketch.finish(sketch.op("Softmax", sketch.x))


def attention(
    sketch: Sketch,
    *,
    query: Callable[[ir.Value], ir.Value] | None = None,
    key: Callable[[ir.Value], ir.Value] | None = None,
    mask: ir.Value | None = None,
) -> Graph:
    values = sketch.heads(sketch.x)
    keys = sketch.op("Transpose", (key or sketch.heads)(sketch.x), perm=[0, 1, 3, 2])
    scores = sketch.op("MatMul", (query or sketch.heads)(sketch.x), keys)
    if mask is not None:
        scores = sketch.op("Add", scores, mask)
    return sketch.finish(sketch.joined(sketch.op("MatMul", sketch.op("Softmax", scores), values)))


def attention_with_a_padding_mask(sketch: Sketch) -> Graph:
    return attention(sketch, mask=sketch.vector)


def attention_without_split_queries(sketch: Sketch) -> Graph:
    return attention(sketch, query=lambda x: sketch.op("Relu", x))


def attention_with_another_split(sketch: Sketch) -> Graph:
    def heads(x: ir.Value) -> ir.Value:
        split = sketch.op("Reshape", x, sketch.graph.ints(1, -1, 2, 4))
        return sketch.op("Transpose", split, perm=[0, 2, 1, 3])

    return attention(sketch, query=heads)


def attention_over_normed_keys(sketch: Sketch) -> Graph:
    return attention(sketch, key=lambda x: sketch.op("Relu", sketch.heads(x)))


@pytest.mark.parametrize(
    ("build", "rule", "reason"),
    [
        (approximate_gelu, Rule("Gelu", fuse_bias_gelu), "it is an approximation"),
        (gelu_of_an_input, Rule("Gelu", fuse_bias_gelu), "its input is no projection with a bias"),
        (
            gelu_of_a_sum_that_is_read_twice,
            Rule("Gelu", fuse_bias_gelu),
            "its input is no projection with a bias",
        ),
        (gelu_with_a_matrix_as_bias, Rule("Gelu", fuse_bias_gelu), "its input is no projection with a bias"),
        (norm_of_an_input, Rule("LayerNormalization", fuse_skip_layer_norm), "its input is no sum"),
        (
            norm_of_a_broadcast_sum,
            Rule("LayerNormalization", fuse_skip_layer_norm),
            "the summands are not known to have the same shape",
        ),
        (
            softmax_alone,
            Rule("Softmax", fuse_attention),
            "it does not stand between q k^T and a product with values that is joined",
        ),
        (attention_with_a_padding_mask, Rule("Softmax", fuse_attention), "its mask is not the causal one"),
        (
            attention_without_split_queries,
            Rule("Softmax", fuse_attention),
            "its queries are not split into heads, or its keys not transposed",
        ),
        (
            attention_with_another_split,
            Rule("Softmax", fuse_attention),
            "its queries are not split into heads, or its keys not transposed",
        ),
        (
            attention_over_normed_keys,
            Rule("Softmax", fuse_attention),
            "its keys or values are neither split into heads nor inputs of the graph",
        ),
    ],
)
def test_what_is_not_the_pattern_is_left_alone_with_the_reason(
    build: Callable[[Sketch], Graph], rule: Rule, reason: str
) -> None:
    graph = build(Sketch())
    before = [node.name for node in graph]
    assert rule.apply(graph) == {"applied": 0, "left_out": {reason: 1}}
    assert [node.name for node in graph] == before


def test_a_graph_without_candidates_says_so() -> None:
    graph = gelu_of_an_input(Sketch())
    assert Rule("Softmax", fuse_attention).apply(graph) == {
        "applied": 0,
        "left_out": {"the graph has no Softmax": 0},
    }


def test_the_whole_pattern_is_replaced() -> None:
    assert Rule("Softmax", fuse_attention).apply(attention(Sketch())) == {"applied": 1, "left_out": {}}
