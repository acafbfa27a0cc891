"""Encoder and decoder as Optimum and transformers.js load them: the decoder projects the cross-attention cache itself.

Their encoder gives hidden states only, so the projections move from our encoder to the decoder. Their decoder is one
file for prefill and step, "merged": an `If` on `use_cache_branch` whose branches share the weights of the outer
graph. Everything that depends on weights alone (casts of stored FP16, the transposed embedding) stays outside, where
the runtime folds it once for both. In the branch of a step the outputs for the cross-attention cache are empty, as in
Optimum's own export: clients keep the cache that the prefill gave. Ports: optimum/exporters/onnx, WhisperOnnxConfig.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.layouts.ports import (
    KINDS,
    constant_nodes,
    layer_ports,
    port,
    prefix_names,
    rename_ports,
)
from pocket_opt.onnx_graphs.files import add_initializer, constant, remove_initializer

PREFILL, STEP, CROSS = "prefill/", "step/", "cross/"
"""Prefixes of names in either branch, and of what comes from the encoder."""


def split_encoder(model: ir.Model) -> ir.Graph:
    """Make `model` the encoder `input_features` -> `last_hidden_state`; returns the rest as a graph of its own.

    The rest computes `cross_key_{i}` and `cross_value_{i}` [batch, heads, positions, head_dim] from `encoder_hidden`.
    """
    from onnx_ir.passes import common

    graph = model.graph
    hidden = port(graph, "encoder_hidden")
    cross = [value for pair in layer_ports(graph, "cross") for value in pair]
    rest = ir.convenience.extract(graph, [hidden], cross)
    for value in cross:
        graph.outputs.remove(value)
    common.RemoveUnusedNodesPass()(model)
    rename_ports(graph, {"features": "input_features", "encoder_hidden": "last_hidden_state"})
    return rest


def merge_decoder(model: ir.Model, cross: ir.Graph) -> None:
    """Make `model`, our cached decoder, the merged one; `cross` is what `split_encoder` returned."""
    graph = model.graph
    names = _branch_names(graph)
    hidden = port(cross, "encoder_hidden")
    outer = list(constant_nodes(graph))
    step = _branch(graph, [node for node in graph if node not in set(outer)])
    prefill = step.clone(allow_outer_scope_values=True)
    prefix_names(step, STEP)
    prefix_names(prefill, PREFILL)
    _compute_cross_cache(graph, prefill, cross, hidden)
    _forget_past(graph, prefill)
    _omit_cross_cache(graph, step)
    switch = ir.val("use_cache_branch", ir.DataType.BOOL, [1])
    _declare_ports(graph, hidden, switch, prefill, step)
    rename_ports(graph, names)


def _branch_names(graph: ir.Graph) -> dict[str, str]:
    names = {"tokens": "input_ids", "encoder_hidden": "encoder_hidden_states"}
    for index in range(len(layer_ports(graph, "past"))):
        for kind in KINDS:
            names[f"past_{kind}_{index}"] = f"past_key_values.{index}.decoder.{kind}"
            names[f"cross_{kind}_{index}"] = f"past_key_values.{index}.encoder.{kind}"
            names[f"present_{kind}_{index}"] = f"present.{index}.decoder.{kind}"
            names[f"new_cross_{kind}_{index}"] = f"present.{index}.encoder.{kind}"
    return names


def _branch(graph: ir.Graph, nodes: list[ir.Node]) -> ir.Graph:
    """Move `nodes` of `graph` into a graph of their own, whose outputs are those of `graph`."""
    outputs = list(graph.outputs)
    graph.outputs.clear()
    graph.remove(nodes)
    return ir.Graph((), outputs, nodes=nodes, name=graph.name)


def _compute_cross_cache(graph: ir.Graph, prefill: ir.Graph, cross: ir.Graph, hidden: ir.Value) -> None:
    """Let `prefill` compute from `hidden` what a step reads from the inputs, and give it out."""
    made = [value for pair in layer_ports(cross, "cross") for value in pair]
    read = [value for pair in layer_ports(graph, "cross") for value in pair]
    cross.outputs.clear()
    cross.inputs.clear()
    prefix_names(cross, CROSS)
    outer = set(constant_nodes(cross))
    _take_weights(graph, cross)
    first, begin = next(iter(graph), None), next(iter(prefill))
    for node in list(cross):
        cross.remove(node)
        if node not in outer:
            prefill.insert_before(begin, node)
        elif first is None:
            graph.append(node)
        else:
            graph.insert_before(first, node)
    _replace_inputs(prefill, dict(zip(read, made, strict=True)))
    prefill.outputs.extend(made)
    hidden.name = "encoder_hidden"


def _take_weights(graph: ir.Graph, cross: ir.Graph) -> None:
    """Move the initializers of `cross` to `graph`; where a name is taken there, both hold the same constant or not."""
    for value in sorted(cross.initializers.values(), key=lambda value: str(value.name)):
        name, tensor = str(value.name), value.const_value
        assert tensor is not None
        remove_initializer(cross, value)
        if name not in graph.initializers:
            graph.initializers[name] = value
            continue
        known = graph.initializers[name]
        if not np.array_equal(constant(known), tensor.numpy()):
            known = add_initializer(graph, f"{CROSS}{name}", tensor.numpy())
        value.replace_all_uses_with(known)


def _forget_past(graph: ir.Graph, prefill: ir.Graph) -> None:
    """Let `prefill` begin with caches of length 0, whatever the client gives for them."""
    past = [value for pair in layer_ports(graph, "past") for value in pair]
    assert past[0].shape is not None
    _, heads, _, head_dim = past[0].shape
    rest = add_initializer(graph, "no_past/shape", np.array([heads, 0, head_dim], np.int64))
    batch = ir.node("Shape", [port(graph, "tokens")], {"start": 0, "end": 1}, name="no_past/Shape")
    sizes = ir.node("Concat", [batch.outputs[0], rest], {"axis": 0}, name="no_past/Concat")
    empty = ir.node("ConstantOfShape", [sizes.outputs[0]], name="no_past/ConstantOfShape")
    for node in (batch, sizes, empty):
        node.outputs[0].name = f"{node.name}_output"
    prefill.insert_before(next(iter(prefill)), [batch, sizes, empty])
    _replace_inputs(prefill, dict.fromkeys(past, empty.outputs[0]))


def _omit_cross_cache(graph: ir.Graph, step: ir.Graph) -> None:
    """Give `step` outputs of length 0 for the cross-attention cache."""
    cross = layer_ports(graph, "cross")
    assert cross[0][0].shape is not None
    _, heads, _, head_dim = cross[0][0].shape
    nothing = ir.tensor(np.zeros((0, heads, 1, head_dim), np.float32))
    for index, pair in enumerate(cross):
        for kind, _ in zip(KINDS, pair, strict=True):
            node = ir.node("Constant", [], {"value": nothing}, name=f"{STEP}no_cross_{kind}_{index}")
            node.outputs[0].name = f"{node.name}_output"
            step.append(node)
            step.outputs.append(node.outputs[0])


def _declare_ports(
    graph: ir.Graph, hidden: ir.Value, switch: ir.Value, prefill: ir.Graph, step: ir.Graph
) -> None:
    """Put the `If` into `graph`, give it the outputs of its branches, and add the two new inputs."""
    node = ir.node(
        "If",
        [switch],
        {"then_branch": step, "else_branch": prefill},
        num_outputs=len(prefill.outputs),
        name="use_cache_branch",
    )
    cross = [value for pair in layer_ports(graph, "cross") for value in pair]
    for made, inner in zip(node.outputs, prefill.outputs, strict=True):
        made.name, made.dtype, made.shape = str(inner.name).removeprefix(PREFILL), inner.dtype, inner.shape
    for made, given in zip(node.outputs[-len(cross) :], cross, strict=True):
        assert given.shape is not None
        made.name, made.dtype = f"new_{given.name}", given.dtype
        made.shape = ir.Shape(("new batch", given.shape[1], "new positions", given.shape[3]))
        # Before the prefill a client has no such cache and gives one of length 0.
        given.shape = ir.Shape((given.shape[0], given.shape[1], "positions", given.shape[3]))
    graph.append(node)
    logits, *caches = node.outputs
    half = len(cross)
    graph.outputs.extend([logits, *_by_layer(caches[:half], caches[half:])])
    past = [value for pair in layer_ports(graph, "past") for value in pair]
    tokens = port(graph, "tokens")
    graph.inputs[:] = [tokens, hidden, *_by_layer(past, cross), switch]


def _by_layer(selves: list[ir.Value], crosses: list[ir.Value]) -> Iterator[ir.Value]:
    """Caches in the order of Optimum, which matches them by position: of each layer self, then cross-attention."""
    for first in range(0, len(selves), len(KINDS)):
        yield from selves[first : first + len(KINDS)]
        yield from crosses[first : first + len(KINDS)]


def _replace_inputs(graph: ir.Graph, values: Mapping[ir.Value, ir.Value]) -> None:
    """Let the nodes of `graph` read other values; `values` maps old to new."""
    for node in graph:
        for index, value in enumerate(node.inputs):
            if value in values:
                node.replace_input_with(index, values[value])


def merge_graphs(graphs: Mapping[str, ir.Model]) -> None:
    """Give "encoder" and "decoder" of `graphs` the ports of Optimum."""
    merge_decoder(graphs["decoder"], split_encoder(graphs["encoder"]))
