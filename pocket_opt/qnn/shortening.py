"""An encoder for few frames, made from one for a whole window: small enough to be run in the simulator.

Every layer, weight and grid is that of the whole encoder; what is cut is how many positions go through it. So every
operator is checked, but none over all positions.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from pocket_opt.artifact import Component
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import Array, load, save

TILE, FEWEST = 64, 16
"""The compiler lays positions out in tiles of powers of two. A short encoder has the whole one's remainder, so that its
last tile is cut alike: onnxruntime-qnn 2.7 mixes rows up at exactly 16 positions of width 768, and not at 12, 20 or 28.
"""

FRAMES_EACH = 2
"""Frames of a position of the encoder's output."""


def few_positions(part: Component) -> int:
    """How many positions stand for all of the encoder `part`: 28 for 1500."""
    rest = int(part.inputs[0].shape[-1]) // FRAMES_EACH % TILE
    return rest if rest > FEWEST else rest + TILE


def shortened(source: Path, destination: Path, positions: int) -> Component:
    """Write the encoder in `source` for `positions` of audio to `destination`; gives its component.

    Raises:
        PocketOptError: it has no table of positions, one row for each of its outputs'.
    """
    model = load(source)
    graph = model.graph
    features = graph.inputs[0]
    frames = features.shape[-1] if features.shape is not None and len(features.shape) == 3 else 0
    whole = int(frames) // FRAMES_EACH
    tables = [
        value
        for value in graph.initializers.values()
        if value.shape is not None and len(value.shape) == 2 and value.shape[0] == whole
    ]
    if not tables:
        raise PocketOptError(
            f"no table of {whole} positions was found to shorten",
            where=source.name,
            fix="report this with the model's shapes",
        )
    for table in tables:
        assert table.const_value is not None
        rows: Array = table.const_value.numpy()[:positions]
        table.const_value, table.shape = ir.tensor(rows, name=table.name), ir.Shape(rows.shape)
    for node in graph:
        for value in node.outputs:
            value.shape = None
    _cut(features, FRAMES_EACH * whole, FRAMES_EACH * positions)
    for port in graph.outputs:
        port.shape = _shape_of(load(source), str(port.name))
        _cut(port, whole, positions)
    return save(model, destination.parent, destination.name)


def _shape_of(model: ir.Model, name: str) -> ir.Shape | None:
    return next(port.shape for port in model.graph.outputs if port.name == name)


def _cut(value: ir.Value, whole: int, kept: int) -> None:
    assert value.shape is not None
    value.shape = ir.Shape([kept if size == whole else size for size in value.shape])
