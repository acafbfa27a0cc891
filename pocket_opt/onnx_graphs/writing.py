"""Writes ONNX files tensor by tensor, so that a graph's weights are never held in memory as a whole.

A protobuf message must state its length before its content, so the lengths are summed first and every
initializer is then framed by hand (https://protobuf.dev/programming-guides/encoding). The result is an ordinary file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir

from pocket_opt.artifact import Port

EXTERNAL_DATA_BYTES = 1_500_000_000
"""Weights beyond this go to `<name>.onnx.data`: a protobuf message must stay under 2^31 bytes."""

_GRAPH_FIELD, _INITIALIZER_FIELD, _RAW_DATA_FIELD = 7, 5, 9


def save_model(model: ir.Model, path: Path, *, external_over: int = EXTERNAL_DATA_BYTES) -> tuple[str, ...]:
    """Write `model` to `path`; returns the names of the files written, the graph first."""
    if initializer_bytes(model) > external_over:
        data = f"{path.name}.data"
        ir.save(model, path, external_data=data, size_threshold_bytes=1024)
        return (path.name, data)
    _stream(model, path)
    return (path.name,)


def initializer_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph."""
    return sum(tensor.nbytes for tensor in _tensors(model))


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    """The tensors with raw bytes, which are all but strings."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return [tensor for tensor in tensors if tensor is not None and tensor.dtype != ir.DataType.STRING]


def _stream(model: ir.Model, path: Path) -> None:
    tensors = _tensors(model)
    skeleton = _graph_without_tensors(model.graph)
    headers = [_tensor_header(tensor) for tensor in tensors]
    sizes = [len(head) + tensor.nbytes for head, tensor in zip(headers, tensors, strict=True)]
    framed = sum(len(_tag(_INITIALIZER_FIELD, size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(_model_without_graph(model))
        file.write(_tag(_GRAPH_FIELD, len(skeleton) + framed))
        file.write(skeleton)
        for tensor, head, size in zip(tensors, headers, sizes, strict=True):
            file.write(_tag(_INITIALIZER_FIELD, size))
            file.write(head)
            raw = tensor.tobytes()
            if len(raw) != tensor.nbytes:
                raise ValueError(f"initializer {tensor.name} has {len(raw)} bytes, not {tensor.nbytes}")
            file.write(raw)


def _graph_without_tensors(graph: ir.Graph) -> bytes:
    """The graph without initializers; only strings, which are short, stay in it."""
    strings = [value for value in graph.initializers.values() if value.dtype == ir.DataType.STRING]
    view = ir.GraphView(
        graph.inputs, graph.outputs, nodes=tuple(graph), initializers=strings, name=graph.name
    )
    raw: bytes = ir.serde.serialize_graph(view).SerializeToString(deterministic=True)
    return raw


def _model_without_graph(model: ir.Model) -> bytes:
    proto = onnx.ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name or "", domain=model.domain or ""
    )
    for domain, version in sorted(model.graph.opset_imports.items()):
        proto.opset_import.add(domain=domain, version=version)
    for key, value in sorted(model.metadata_props.items()):
        proto.metadata_props.add(key=key, value=value)
    raw: bytes = proto.SerializeToString(deterministic=True)
    return raw


def _tensor_header(tensor: ir.TensorProtocol) -> bytes:
    proto = onnx.TensorProto(name=tensor.name or "", data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    raw: bytes = proto.SerializeToString(deterministic=True)
    return raw + _tag(_RAW_DATA_FIELD, tensor.nbytes)


def _tag(field: int, length: int) -> bytes:
    return bytes([field << 3 | 2]) + _varint(length)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def count_operators(nodes: Iterable[ir.Node]) -> dict[str, int]:
    """How many nodes of each operator type there are, by name."""
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))


def ports(model: ir.Model) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The inputs and outputs of `model`."""
    return tuple(map(_port, model.graph.inputs)), tuple(map(_port, model.graph.outputs))


def _port(value: ir.Value) -> Port:
    if value.name is None or value.dtype is None or value.shape is None:
        raise ValueError(f"the port {value.name!r} has no type or shape")
    shape = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return Port(value.name, value.dtype.numpy().name, shape)
