"""ONNX components on disk: open, edit, save and describe them, also when their weights lie in a second file.

Graphs are edited as `onnx_ir` models, because weights stay memory-mapped there until a rewrite reads them: the peak
is the largest tensor plus what was made so far, not the whole model. Equal inputs give equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.block_quantization import BlockTensor
from pocket_opt.onnx_graphs.writing import ports, save_model
from pocket_opt.passes.base import Outcome, Progress
from pocket_opt.precision import LEFT_FLOAT, LEFT_TO_OTHERS
from pocket_opt.worker import silent

CONTRIB = "com.microsoft"
"""Operator domain of ONNX Runtime's contributed operators."""

FLOAT = ir.DataType.FLOAT.value
"""The number of float32 in attributes."""

Array = npt.NDArray[Any]
Report = Mapping[str, Any]


def load(path: Path) -> ir.Model:
    """The model in the file `path`; external weights are mapped, not read.

    Raises:
        PocketOptError: weights are said to lie outside the model's directory.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _mapped(value.const_value, path)
    return model


def _mapped(tensor: ir.ExternalTensor, path: Path) -> ir.LazyTensor:
    """The same tensor, also where its file has several hard links, as it has in the store; onnx_ir refuses these."""
    file = path.parent / tensor.location
    if Path(tensor.location).name != str(tensor.location) or file.is_symlink():
        raise PocketOptError(
            f"the weight '{tensor.name}' is said to lie outside the model's directory",
            where=f"{path}: {tensor.location}",
            fix="take the model from a source you trust",
        )
    dtype, shape = tensor.dtype, tensor.shape.numpy()

    def read() -> ir.TensorProtocol:
        if not tensor.size:
            return ir.tensor(np.empty(shape, dtype.numpy()), name=tensor.name)
        array = np.memmap(file, dtype.numpy(), "r", offset=tensor.offset or 0, shape=shape)
        return ir.tensor(array, name=tensor.name)

    return ir.LazyTensor(read, dtype, tensor.shape, name=tensor.name)


def save(model: ir.Model, workdir: Path, file: str) -> Component:
    """Write `model` as `file` under `workdir`, without initializers that nothing reads; returns the component."""
    drop_unused(model.graph)
    number_names(model.graph)
    if any(node.domain == CONTRIB for node in model.graph.all_nodes()):
        model.graph.opset_imports[CONTRIB] = 1
    path = workdir / file
    path.parent.mkdir(parents=True, exist_ok=True)
    written = tuple(str(Path(file).with_name(name)) for name in save_model(model, path))
    inputs, outputs = ports(model)
    return Component("onnx", written, inputs, outputs)


def parameters(graph: ir.Graph) -> list[tuple[ir.Value, ir.TensorProtocol]]:
    """The initializers of `graph` that no caller can replace, in file order, and their tensors."""
    return [
        (value, value.const_value)
        for value in graph.initializers.values()
        if value.const_value is not None and not value.is_graph_input()
    ]


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is an initializer that no caller can replace."""
    return (
        value is not None
        and value.const_value is not None
        and value.is_initializer()
        and not value.is_graph_input()
    )


def constant(value: ir.Value | None) -> Array:
    """The array behind the initializer `value`; ValueError if it is none."""
    if value is None or value.const_value is None:
        raise ValueError(f"{value} is not an initializer")
    array: Array = value.const_value.numpy()
    return array


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Store `array` in `graph` as initializer `name`; ValueError where that name is taken."""
    if name in graph.initializers:
        raise ValueError(f"the graph has an initializer '{name}' already")
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    graph.initializers[name] = value
    return value


def remove_initializer(graph: ir.Graph, value: ir.Value) -> None:
    """Take the initializer `value`, which nothing reads any more, out of `graph`."""
    del graph.initializers[str(value.name)]


def drop_unused(graph: ir.Graph) -> None:
    """Remove initializers that no node reads, and operator sets that no node is of."""
    for value in list(graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():
            remove_initializer(graph, value)
    used = {node.domain for node in graph.all_nodes()}
    for domain in set(graph.opset_imports) - used - {""}:
        del graph.opset_imports[domain]


def number_names(graph: ir.Graph) -> None:
    """Make node names unique: ONNX Runtime refuses a graph that has one twice."""
    used: Counter[str] = Counter()
    for node in graph:
        name = node.name or node.op_type
        node.name = f"{name}_{used[name]}" if used[name] else name
        used[name] += 1


def new_node(
    module: str,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | Sequence[int]] | None = None,
    *,
    domain: str = "",
    outputs: int = 1,
    suffix: str = "",
) -> ir.Node:
    """A node named `<module>/<op_type><suffix>`, so that a profile groups it with its module."""
    name = f"{module}/{op_type}{suffix}"
    return ir.node(op_type, inputs, attributes, domain=domain, num_outputs=outputs, name=name)


def replace_node(old: ir.Node, new: Sequence[ir.Node]) -> None:
    """Put the nodes `new`, the last of which computes the one output of `old`, in the place of `old`."""
    assert old.graph is not None
    ir.convenience.replace_nodes_and_values(old.graph, old, [old], new, old.outputs, new[-1].outputs)


def module_of(node: ir.Node) -> str:
    """The module path in a node's name: "encoder.layers.0.fc1" of "encoder.layers.0.fc1/MatMul"."""
    return (node.name or "").rpartition("/")[0] or (node.name or node.op_type)


def add_blocks(graph: ir.Graph, name: str, blocks: BlockTensor) -> tuple[ir.Value, ...]:
    """Store a quantized weight as `<name>.q<bits>`, `.scales` and, where it has them, `.zero_points`."""
    base = f"{name}.q{blocks.bits}"
    parts = (("", blocks.packed), (".scales", blocks.scales), (".zero_points", blocks.zero_points))
    return tuple(add_initializer(graph, base + part, array) for part, array in parts if array is not None)


def matmul_nbits(
    old: ir.Node, weight: Sequence[ir.Value], shape: tuple[int, int], sizes: Mapping[str, int]
) -> ir.Node:
    """The node that computes what the MatMul `old` does with `weight` (from `add_blocks`) of `shape` (K, N).

    `sizes` are the operator's attributes bits, block_size and accuracy_level.
    """
    attributes = {"K": shape[0], "N": shape[1], **sizes}
    return new_node(module_of(old), "MatMulNBits", [old.inputs[0], *weight], attributes, domain=CONTRIB)


def linear_layers(graph: ir.Graph) -> list[ir.Node]:
    """The MatMul nodes whose right side is a float32 initializer [K, N]; never QK^T or AV."""
    return [node for node in graph if node.op_type == "MatMul" and is_matrix(node.inputs[1])]


def is_matrix(value: ir.Value | None) -> bool:
    """Whether `value` is a constant float32 matrix."""
    tensor = value.const_value if value is not None and is_constant(value) else None
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 2


def choose_linear_layers(
    graph: ir.Graph, include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[ir.Node], dict[str, list[str]]]:
    """Linear layers whose names match `include` and not `exclude`; the other MatMul nodes' names by reason."""
    linear, chosen, left_out = set(linear_layers(graph)), [], dict[str, list[str]]()
    for node in graph:
        if node in linear and matches(node.name, include) and not matches(node.name, exclude):
            chosen.append(node)
        elif node.op_type == "MatMul":
            reason = "excluded by pattern" if node in linear else "right side is not a constant matrix"
            left_out.setdefault(reason, []).append(node.name or "")
    return chosen, left_out


def matches(name: str | None, patterns: Iterable[str]) -> bool:
    """Whether `name` matches one of the shell-style `patterns`, with case."""
    return any(fnmatchcase(name or "", pattern) for pattern in patterns)


def require_graphs(source: Artifact, components: Sequence[str]) -> None:
    """Raise PocketOptError unless all `components` (at least one) are ONNX graphs of `source`."""
    graphs = [name for name, part in source.components.items() if part.format == "onnx"]
    missing = [name for name in components if name not in graphs]
    if missing or not components:
        raise PocketOptError(
            f"the artifact has no ONNX component '{missing[0]}'" if missing else "no component is named",
            where="parameter components",
            allowed=", ".join(graphs) or "(none: export the model first)",
        )


def require_matches(names: Iterable[str | None], patterns: Iterable[str], parameter: str) -> None:
    """Raise PocketOptError for a pattern that matches none of `names`, because it would silently do nothing."""
    known = [name or "" for name in names]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            shown = ", ".join(known[:6]) + (f" and {len(known) - 6} more" if len(known) > 6 else "")
            raise PocketOptError(
                f"the pattern '{pattern}' matches nothing",
                where=f"parameter {parameter}",
                allowed=f"shell-style patterns for {shown or '(no names)'}",
                fix="correct the pattern or remove it; quantize before weights are stored as fp16",
            )


def require_linear_layers(source: Artifact, components: Sequence[str], patterns: Iterable[str]) -> None:
    """Raise PocketOptError unless `components` are graphs of `source` and each pattern matches one of their layers."""
    require_graphs(source, components)
    graphs = [load(source.path(name)).graph for name in components]
    names = [node.name for graph in graphs for node in linear_layers(graph)]
    require_matches(names, patterns, "include, exclude, overrides")


def rewrite(
    source: Artifact,
    components: Sequence[str],
    workdir: Path,
    change: Callable[[ir.Graph], Report],
    progress: Progress = silent,
) -> Outcome:
    """Apply `change` to the graphs `components` of `source`, one at a time, and pass the others through.

    `change` edits a graph, called like its component, in place and returns what it did; `tensors`, the number of
    tensors it changed, must be in it, and may be 0 only where overrides left layers out (`left_out`). The outcome's
    report has these by component with the bytes of its files before and after, and the sums.

    Raises:
        PocketOptError: where nothing was changed in a component.
    """
    artifact, reports = source.carry(workdir, without=tuple(components)), {}
    for done, name in enumerate(components):
        model = load(source.path(name))
        model.graph.name = name
        report = change(model.graph)
        if not report["tensors"] and not {LEFT_FLOAT, LEFT_TO_OTHERS} & set(report.get("left_out", ())):
            raise PocketOptError(
                f"nothing could be changed in component '{name}'",
                where=f"{report}",
                fix="take it out of the components, or loosen the patterns and limits",
            )
        part = save(model, workdir, source.components[name].files[0])
        artifact = artifact.with_component(name, part)
        reports[name] = {**report, "bytes_before": source.size(name), "bytes_after": artifact.size(name)}
        progress(done + 1, len(components), "graphs")
    sums = {
        key: sum(part[key] for part in reports.values()) for key in ("tensors", "bytes_before", "bytes_after")
    }
    return Outcome(artifact, {**sums, "components": reports})


def sqnr_db(reference: Array, found: Array) -> float:
    """Signal to quantization noise in dB, 20 log10(|r| / |r - f|); infinite where both are equal."""
    noise, signal = float(np.linalg.norm(reference - found)), float(np.linalg.norm(reference))
    return float("inf") if noise == 0 else 20 * float(np.log10(max(signal, 1e-30) / noise))
