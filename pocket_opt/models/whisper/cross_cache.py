"""The cross-attention cache in 8 or 16 bits: rewrites of the encoder that writes it and of the decoder that reads it.

In 8 bits the attention is computed in integers. Keys and values have one scale for each head and feature, over all
positions of a clip; the keys' are multiplied into the queries, the values' into the result, so nothing is widened. What
is quantized of the softmax are the exponentials relative to their row's largest, so that a flat row keeps its detail.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import FLOAT, add_initializer, module_of, new_node

PREFIXES = ("cross_key_", "cross_value_")
FLOAT16, INT8 = int(ir.DataType.FLOAT16), int(ir.DataType.INT8)
LEVELS = 63.0
"""Of the 127: kernels for x86 without VNNI add two products of 8 bits in 16, which would saturate."""
ATTENTION = "MultiHeadAttention"


def cross_ports(values: Sequence[ir.Value]) -> list[ir.Value]:
    """The ports of the cross-attention cache among `values`."""
    return [value for value in values if str(value.name).startswith(PREFIXES)]


def cross_attentions(graph: ir.Graph) -> list[ir.Node]:
    """The fused attentions that read the cache."""
    return [
        node
        for node in graph
        if node.op_type == ATTENTION and node.inputs[1] is not None and cross_ports([node.inputs[1]])
    ]


def write_half(encoder: ir.Graph) -> None:
    """Let the encoder give its cache in 16 bits."""
    for port in cross_ports(encoder.outputs):
        cast = new_node(_module(port), "Cast", [port], {"to": FLOAT16}, suffix="_cache")
        encoder.append(cast)
        _replace_output(encoder, port, cast.outputs[0], ir.DataType.FLOAT16)


def read_half(decoder: ir.Graph) -> None:
    """Let the decoder widen the cache where it reads it."""
    for port in cross_ports(decoder.inputs):
        readers = list(port.uses())
        cast = new_node(module_of(readers[0].node), "Cast", [port], {"to": FLOAT}, suffix="_cache")
        port.dtype = ir.DataType.FLOAT16
        cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, port.shape
        decoder.insert_before(readers[0].node, cast)
        for use in readers:
            use.node.replace_input_with(use.idx, cast.outputs[0])


def write_integers(encoder: ir.Graph) -> None:
    """Let the encoder give its cache in 8 bits, keys transposed, with the scales as outputs of their own."""
    axis = add_initializer(encoder, "cross_cache.positions_axis", np.array([2]))
    levels = add_initializer(encoder, "cross_cache.levels", np.array(LEVELS, np.float32))
    least = add_initializer(encoder, "cross_cache.least", np.array(1e-12, np.float32))
    for port in cross_ports(encoder.outputs):
        module = _module(port)
        size = new_node(module, "Abs", [port], suffix="_cache")
        peak = new_node(module, "ReduceMax", [size.outputs[0], axis], {"keepdims": 1}, suffix="_cache")
        safe = new_node(module, "Max", [peak.outputs[0], least], suffix="_cache")
        scale = new_node(module, "Div", [safe.outputs[0], levels], suffix="_cache")
        scaled = new_node(module, "Div", [port, scale.outputs[0]], suffix="_cache_levels")
        rounded = new_node(module, "Round", scaled.outputs, suffix="_cache")
        stored = new_node(module, "Cast", rounded.outputs, {"to": INT8}, suffix="_cache")
        nodes = [size, peak, safe, scale, scaled, rounded, stored]
        shape = port.shape
        if str(port.name).startswith(PREFIXES[0]):
            nodes.append(_transpose(module, stored.outputs[0], [0, 1, 3, 2], "_cache"))
            shape = ir.Shape([shape[place] for place in (0, 1, 3, 2)]) if shape is not None else None
        encoder.extend(nodes)
        name, full = port.name, port.shape
        _replace_output(encoder, port, nodes[-1].outputs[0], ir.DataType.INT8, shape)
        told = scale.outputs[0]
        told.name, told.dtype, told.shape = scale_name(str(name)), ir.DataType.FLOAT, _scale_shape(full)
        encoder.outputs.append(told)


def read_integers(decoder: ir.Graph) -> None:
    """Put integer products in the place of the attentions that read the cache."""
    for node in cross_attentions(decoder):
        query, key, value = node.inputs[:3]
        assert query is not None
        assert key is not None
        assert value is not None
        heads, width = node.attributes.get_int("num_heads"), _last(query)
        full = key.shape
        scales = [_scale_input(decoder, port, full) for port in (key, value)]
        key.dtype = value.dtype = ir.DataType.INT8
        if full is not None:
            key.shape = ir.Shape([full[place] for place in (0, 1, 3, 2)])
        nodes = _integer_attention(decoder, node, (query, key, value), scales, (heads, width))
        ir.convenience.replace_nodes_and_values(
            decoder, node, [node], nodes, [node.outputs[0]], [nodes[-1].outputs[0]]
        )


def scale_name(port: str) -> str:
    """The port of the scales of a cache port: cross_key_0 -> cross_key_scale_0."""
    kind, _, layer = port.rpartition("_")
    return f"{kind}_scale_{layer}"


def _integer_attention(
    graph: ir.Graph,
    old: ir.Node,
    inputs: tuple[ir.Value, ir.Value, ir.Value],
    scales: Sequence[ir.Value],
    sizes: tuple[int, int],
) -> list[ir.Node]:
    """Queries [batch, length, width], keys [batch, heads, head_dim, positions], values [.., positions, head_dim]."""
    (query, key, value), (heads, width) = inputs, sizes
    module, nodes = module_of(old), []

    def add(
        op_type: str, *given: ir.Value, outputs: int = 1, suffix: str = "", **attributes: int
    ) -> ir.Value:
        node = new_node(module, op_type, given, attributes, outputs=outputs, suffix=suffix)
        nodes.append(node)
        return node.outputs[0]

    split = _shared(graph, "cross_cache.split", np.array([0, 0, heads, width // heads]))
    joined = _shared(graph, "cross_cache.join", np.array([0, 0, width]))
    last = _shared(graph, "cross_cache.last_axis", np.array([-1]))
    step = _shared(graph, "cross_cache.weight_step", np.array(1 / 255, np.float32))
    zero = _shared(graph, "cross_cache.weight_zero", np.array(0, np.uint8))
    by_head = _transpose(module, add("Reshape", query, split), [0, 2, 1, 3], "_query")
    nodes.append(by_head)
    rounded = add("DynamicQuantizeLinear", add("Mul", by_head.outputs[0], scales[0]), outputs=3)
    query_scale, query_zero = nodes[-1].outputs[1:]
    product = add("MatMulInteger", rounded, key, query_zero)
    scores = add("Mul", add("Cast", product, to=FLOAT), query_scale, suffix="_scores")
    above = add("Sub", scores, add("ReduceMax", scores, last, keepdims=1))
    weights = add("QuantizeLinear", add("Exp", above), step, zero)
    mixed = add("Cast", add("MatMulInteger", weights, value, suffix="_values"), to=FLOAT, suffix="_values")
    total = add("ReduceSum", add("Cast", weights, to=FLOAT, suffix="_weights"), last, keepdims=1)
    scaled = add("Mul", add("Div", mixed, total), scales[1], suffix="_values")
    together = _transpose(module, scaled, [0, 2, 1, 3], "_joined")
    nodes.append(together)
    result = add("Reshape", together.outputs[0], joined, suffix="_joined")
    result.dtype, result.shape = ir.DataType.FLOAT, query.shape
    return nodes


def _transpose(module: str, value: ir.Value, order: list[int], suffix: str) -> ir.Node:
    node = new_node(module, "Transpose", [value], suffix=suffix)
    node.attributes.add(ir.AttrInt64s("perm", order))
    return node


def _shared(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    return graph.initializers[name] if name in graph.initializers else add_initializer(graph, name, array)


def _module(port: ir.Value) -> str:
    producer = port.producer()
    return module_of(producer) if producer is not None else ""


def _last(value: ir.Value) -> int:
    assert value.shape is not None
    size = value.shape[-1]
    assert isinstance(size, int)
    return size


def _scale_shape(full: ir.Shape | None) -> ir.Shape | None:
    return ir.Shape([full[0], full[1], 1, full[3]]) if full is not None else None


def _scale_input(graph: ir.Graph, port: ir.Value, full: ir.Shape | None) -> ir.Value:
    shape = _scale_shape(full)
    value = ir.val(scale_name(str(port.name)), ir.DataType.FLOAT, list(shape) if shape is not None else None)
    graph.inputs.append(value)
    return value


def _replace_output(
    graph: ir.Graph, old: ir.Value, new: ir.Value, dtype: ir.DataType, shape: ir.Shape | None = None
) -> None:
    """Make `new` the output that `old` was, under its name."""
    new.dtype, new.shape = dtype, shape if shape is not None else old.shape
    new.name, old.name = old.name, f"{old.name}_float"
    graph.outputs[list(graph.outputs).index(old)] = new
