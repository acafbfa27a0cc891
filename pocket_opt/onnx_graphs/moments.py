"""What the inputs of layers look like on real data: x^T x over calibration clips, in bounded memory, and peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.block_quantization import Floats
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.onnx_graphs.files import Array, linear_layers, load, save
from pocket_opt.scratch import scratch

MEMORY = 1_000_000_000
"""Bytes of moments that are summed at a time; more of them take further passes over the clips."""

Feeds = Callable[[], Iterable[Mapping[str, Array]]]
"""Gives a graph's inputs for one clip after the other, as often as it is called."""


def each_moment(
    artifact: Artifact, component: str, sources: Sequence[str], feeds: Feeds
) -> Iterator[tuple[str, Floats]]:
    """For each value of `sources`, which linear layers read, its name and x^T x [K, K] over all rows of all clips."""
    widths = _widths(load(artifact.path(component)).graph)
    for group in _groups(sources, widths):
        moments = {name: np.zeros((widths[name], widths[name]), np.float32) for name in group}
        for name, rows in _each_rows(artifact, component, group, feeds):
            moments[name] += rows.T @ rows
        while moments:
            yield moments.popitem()


def peaks(artifact: Artifact, component: str, sources: Sequence[str], feeds: Feeds) -> dict[str, Floats]:
    """For each value of `sources`, which linear layers read, the largest |x| of each column [K] over all clips."""
    found: dict[str, Floats] = {}
    for name, rows in _each_rows(artifact, component, list(dict.fromkeys(sources)), feeds):
        peak = np.abs(rows).max(axis=0)
        found[name] = np.maximum(found[name], peak) if name in found else peak
    return found


def _each_rows(
    artifact: Artifact, component: str, names: Sequence[str], feeds: Feeds
) -> Iterator[tuple[str, Floats]]:
    """The values `names` as rows [N, K], clip after clip."""
    with scratch("moments") as folder:
        session = open_session(_tapped(artifact, component, names, folder), component)
        for inputs in feeds():
            for name, found in zip(names, session.run(list(names), dict(inputs)), strict=True):
                yield name, found.reshape(-1, found.shape[-1])


def _widths(graph: ir.Graph) -> dict[str, int]:
    """K of every value that a linear layer reads."""
    found = {}
    for node in linear_layers(graph):
        source, weight = node.inputs[:2]
        if source is not None and weight is not None and weight.const_value is not None:
            found[str(source.name)] = int(weight.const_value.shape[0])
    return found


def _groups(sources: Sequence[str], widths: Mapping[str, int]) -> Iterator[list[str]]:
    """`sources` in groups whose moments fit into `MEMORY`; one that alone does not is a group of its own."""
    group: list[str] = []
    taken = 0
    for name in dict.fromkeys(sources):
        size = 4 * widths[name] ** 2
        if group and taken + size > MEMORY:
            yield group
            group, taken = [], 0
        group.append(name)
        taken += size
    if group:
        yield group


def _tapped(artifact: Artifact, component: str, names: Sequence[str], folder: Path) -> Artifact:
    """`artifact` with one graph, written to `folder`, that gives these values and nothing else."""
    model = load(artifact.path(component))
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    values |= {str(value.name): value for value in model.graph.inputs}
    model.graph.outputs.clear()
    for name in names:
        values[name].dtype = ir.DataType.FLOAT
        values[name].shape = values[name].shape or ir.Shape([None, None, None])
        model.graph.outputs.append(values[name])
    RemoveUnusedNodesPass()(model)
    part = save(model, folder, f"{component}.onnx")
    return replace(artifact, root=folder).with_component(component, part)
