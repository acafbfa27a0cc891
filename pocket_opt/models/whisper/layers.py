"""The modules that encoder and decoder share: projections, layer norm, attention, feed-forward.

Shapes follow `transformers.models.whisper.modeling_whisper` (5.23). Linear weights are stored transposed,
`[in, out]`, because quantizers and ONNX Runtime's pre-packing want a constant right operand of MatMul.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.checkpoint import Checkpoint, FloatArray
from pocket_opt.models.whisper.graph_builder import GraphBuilder, shape_of, shaped

Transform = Callable[[FloatArray], FloatArray]
LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Layers:
    """Adds Whisper's modules to `graph`; module scopes are the names of the state dict without `model.`."""

    graph: GraphBuilder
    checkpoint: Checkpoint

    def weight(self, leaf: str, shape: tuple[int, ...], transform: Transform | None = None) -> ir.Value:
        """State-dict tensor `<module>.<leaf>` of `shape`, read when the graph is saved."""
        name = f"model.{self.graph.module}.{leaf}"
        kept = transform or np.ascontiguousarray
        stored = shape[::-1] if transform else shape

        def read() -> ir.TensorProtocol:
            return ir.tensor(kept(self.checkpoint.read(name)))

        return self.graph.weight(name, ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape(stored), name=name))

    def linear(
        self, x: ir.Value, name: str, width: tuple[int, int], *, bias: bool = True, scale: float = 1.0
    ) -> ir.Value:
        """`scale * (x @ W + b)` for `x` [batch, length, in], `width` = (in, out); the scale is folded into W and b."""
        factor = np.float32(scale)
        with self.graph.scope(name):
            weight = self.weight("weight", (width[1], width[0]), lambda w: np.ascontiguousarray(w.T) * factor)
            shape = (*shape_of(x)[:-1], width[1])
            y = shaped(self.graph.op("MatMul", x, weight), shape)
            if not bias:
                return y
            offset = self.weight("bias", (width[1],), lambda b: b * factor)
            return shaped(self.graph.op("Add", y, offset), shape)

    def layer_norm(self, x: ir.Value, name: str) -> ir.Value:
        """Layer normalization over the last axis."""
        width = self.checkpoint.dims.d_model
        with self.graph.scope(name):
            scale, bias = self.weight("weight", (width,)), self.weight("bias", (width,))
            y = self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)
        return shaped(y, shape_of(x))

    def residual(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """`x + y`, both [batch, length, d_model]."""
        return shaped(self.graph.op("Add", x, y), shape_of(x))

    def feed_forward(self, x: ir.Value, hidden: int) -> ir.Value:
        """`x + fc2(gelu(fc1(final_layer_norm(x))))` with the exact (erf) Gelu."""
        width = self.checkpoint.dims.d_model
        y = self.linear(self.layer_norm(x, "final_layer_norm"), "fc1", (width, hidden))
        with self.graph.scope("activation_fn"):
            y = shaped(self.graph.op("Gelu", y), shape_of(y))
        return self.residual(x, self.linear(y, "fc2", (hidden, width)))

    def query(self, x: ir.Value, heads: int) -> ir.Value:
        """Queries [batch, heads, length, head_dim] of `joined_query`."""
        return self.split_heads(self.joined_query(x, heads), heads)

    def joined_query(self, x: ir.Value, heads: int) -> ir.Value:
        """Queries [batch, length, d_model], divided by sqrt(head_dim) through their weights."""
        width = self.checkpoint.dims.d_model
        return self.linear(x, "q_proj", (width, width), scale=(width // heads) ** -0.5)

    def key(self, x: ir.Value, heads: int) -> ir.Value:
        """Keys [batch, heads, length, head_dim] of `joined_key`."""
        return self.split_heads(self.joined_key(x), heads)

    def joined_key(self, x: ir.Value) -> ir.Value:
        """Keys [batch, length, d_model]; Whisper's key projection has no bias."""
        width = self.checkpoint.dims.d_model
        return self.linear(x, "k_proj", (width, width), bias=False)

    def value(self, x: ir.Value, heads: int) -> ir.Value:
        """Values [batch, heads, length, head_dim]."""
        width = self.checkpoint.dims.d_model
        return self.split_heads(self.linear(x, "v_proj", (width, width)), heads)

    def split_heads(self, x: ir.Value, heads: int) -> ir.Value:
        """[batch, length, d_model] to [batch, heads, length, head_dim]."""
        head_dim = self.checkpoint.dims.d_model // heads
        batch, length, _ = shape_of(x)
        split = self.graph.op("Reshape", x, self.graph.ints(0, 0, heads, head_dim))
        return shaped(self.graph.op("Transpose", split, perm=[0, 2, 1, 3]), (batch, heads, length, head_dim))

    def attend(
        self, query: ir.Value, key: ir.Value, value: ir.Value, mask: ir.Value | None = None
    ) -> ir.Value:
        """`out_proj(softmax(q k^T + mask) v)`: [batch, heads, length, head_dim] to [batch, length, d_model].

        `mask` [length, keys] is added to the scores.
        """
        graph = self.graph
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        if mask is not None:
            scores = graph.op("Add", scores, mask)
        mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
        return self.join_heads(shaped(mixed, shape_of(query)))

    def join_heads(self, mixed: ir.Value) -> ir.Value:
        """`out_proj` of [batch, heads, length, head_dim], as [batch, length, d_model]."""
        graph, width = self.graph, self.checkpoint.dims.d_model
        joined = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
        batch, _, length, _ = shape_of(mixed)
        flat = shaped(graph.op("Reshape", joined, graph.ints(0, 0, width)), (batch, length, width))
        return self.linear(flat, "out_proj", (width, width))
