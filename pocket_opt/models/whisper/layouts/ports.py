"""The ports of our graphs by what they carry, and how they get the names that a client asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import onnx_ir as ir

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError

KINDS = ("key", "value")
NO_LIMIT = 2**31 - 1
"""The end of a Slice that goes to the end."""


def layer_ports(graph: ir.Graph, prefix: str) -> list[tuple[ir.Value, ir.Value]]:
    """Inputs or outputs `<prefix>_key_<i>` and `<prefix>_value_<i>` of `graph`, a pair for each layer."""
    named = {str(value.name): value for value in (*graph.inputs, *graph.outputs)}
    layers = next(index for index in count() if f"{prefix}_key_{index}" not in named)
    return [(named[f"{prefix}_key_{index}"], named[f"{prefix}_value_{index}"]) for index in range(layers)]


def port(graph: ir.Graph, name: str) -> ir.Value:
    """The input or output `name` of `graph`."""
    return next(value for value in (*graph.inputs, *graph.outputs) if value.name == name)


def rename_ports(graph: ir.Graph, names: Mapping[str, str]) -> None:
    """Give inputs and outputs of `graph` other names; `names` maps old to new."""
    for value in (*graph.inputs, *graph.outputs):
        if value.name is not None:
            value.name = names.get(value.name, value.name)


def declared(name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    """A value with a type and a shape, for a port."""
    return ir.val(name, dtype, shape)


def require_cached_graphs(model: Artifact, layout: str) -> None:
    """Raise PocketOptError unless encoder and decoder are ONNX graphs with caches in float32, as clients keep them."""
    parts = model.components
    if any(name not in parts or parts[name].format != "onnx" for name in ("encoder", "decoder")):
        raise PocketOptError(
            f"the layout {layout} is made from the ONNX graphs encoder and decoder",
            where=f"components {', '.join(parts)}",
            fix="set bundle.layout=native, or a target and a decoder that give these graphs",
        )
    caches = [port for port in parts["decoder"].inputs if port.name.startswith(("past_", "cross_"))]
    odd = [port for port in caches if port.dtype != "float32" or len(port.shape) != 4]
    if odd or not caches:
        raise PocketOptError(
            f"the layout {layout} needs caches of four axes in float32, which its client keeps",
            where=f"input {odd[0].name} ({odd[0].dtype})" if odd else "a decoder without caches",
            fix="set decoder=kv_cache, and leave out passes that store the caches in another form",
        )


def prefix_names(graph: ir.Graph, prefix: str) -> None:
    """Put `prefix` before every name that the nodes of `graph` and their outputs have."""
    for node in graph:
        node.name = f"{prefix}{node.name}"
        for output in node.outputs:
            output.name = f"{prefix}{output.name}" if output.name else output.name


def constant_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of `graph` that depend on nothing but initializers, in order: casts, transposed weights."""
    made: set[ir.Value] = set()
    for node in graph:
        known = (
            value is None or value in made or (value.is_initializer() and not value.is_graph_input())
            for value in node.inputs
        )
        if all(known):
            made.update(node.outputs)
            yield node
