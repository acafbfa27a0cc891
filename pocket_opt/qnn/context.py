"""Context binaries as ONNX Runtime wraps them: a small ONNX file whose node EPContext names the binary beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from pocket_opt.artifact import Component, Port
from pocket_opt.errors import PocketOptError

FORMAT = "qnn_context"
CONTEXT = "EPContext"
OPSETS = {"": 20, "com.microsoft": 1}
IR_VERSION = 10


def binaries(wrapper: Path) -> list[str]:
    """The names of the binaries that a wrapper refers to, which lie beside it; PocketOptError if one does not."""
    names = [
        attribute.s.decode()
        for node in _nodes(wrapper)
        if node.op_type == CONTEXT
        for attribute in node.attribute
        if attribute.name == "ep_cache_context"
    ]
    lost = [name for name in names if Path(name).name != name or not (wrapper.parent / name).is_file()]
    if lost or not names:
        raise PocketOptError(
            f"the wrapper {wrapper.name} names no binary beside it",
            where=", ".join(lost) or "no node EPContext",
            fix="compile it again",
        )
    return list(dict.fromkeys(names))


def left_out(wrapper: Path) -> list[tuple[str, str]]:
    """Name and operator of the nodes that stayed outside of the NPU's programs."""
    return [(node.name, node.op_type) for node in _nodes(wrapper) if node.op_type != CONTEXT]


def wrap(binary: Path, graph: str, part: Component, *, sdk: str) -> Path:
    """Write the wrapper `<graph>.onnx` beside `binary`, which holds the graph called `graph` with the ports of `part`.

    Source: ONNX Runtime, EP context design; its own tool for this (gen_qnn_ctx_onnx_model) reads the ports from the
    SDK's description of a binary.

    Args:
        sdk: the version of the SDK that made the binary.
    """
    ports = [[_value(port) for port in side] for side in (part.inputs, part.outputs)]
    names = [[port.name for port in side] for side in (part.inputs, part.outputs)]
    node = helper.make_node(
        CONTEXT,
        *names,
        name=graph,
        domain="com.microsoft",
        embed_mode=0,
        ep_cache_context=binary.name,
        ep_sdk_version=sdk,
        main_context=1,
        partition_name=graph,
        source="Qnn",
    )
    opsets = [helper.make_opsetid(*item) for item in OPSETS.items()]
    wrapper = binary.with_name(f"{graph}.onnx")
    whole = helper.make_graph([node], graph, *ports)
    onnx.save(helper.make_model(whole, opset_imports=opsets, ir_version=IR_VERSION), str(wrapper))
    return wrapper


def _value(port: Port) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, kind, list(port.shape))


def sdk_version(wrapper: Path) -> str:
    """The version of Qualcomm's SDK that made the binary, e.g. v2.51.0.260929181845; PocketOptError without one."""
    for node in _nodes(wrapper):
        for attribute in node.attribute:
            if node.op_type == CONTEXT and attribute.name == "ep_sdk_version":
                return str(attribute.s.decode())
    raise PocketOptError(
        f"the wrapper {wrapper.name} does not say which compiler made its binary",
        where="attribute ep_sdk_version",
        fix="compile it again",
    )


def component(wrapper: Path, before: Component) -> Component:
    """The component of a wrapper and its binaries, with the ports of the graph that it was compiled from."""
    return Component(FORMAT, (wrapper.name, *binaries(wrapper)), before.inputs, before.outputs)


def check_ports(wrapper: Path, part: Component) -> None:
    """Raise PocketOptError where a wrapper has other ports than its component states."""
    graph = onnx.load(str(wrapper), load_external_data=False).graph
    found = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output)
    }
    stated = {port.name: port.shape for port in (*part.inputs, *part.outputs)}
    if found != stated:
        other = sorted(name for name in found.keys() | stated.keys() if found.get(name) != stated.get(name))
        raise PocketOptError(
            f"the compiled {wrapper.name} has other ports than the graph",
            where=", ".join(other),
            allowed="the same names and shapes",
            fix="report this with the model's shapes",
        )


def _nodes(wrapper: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(str(wrapper), load_external_data=False).graph.node)
