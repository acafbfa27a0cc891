"""Inputs for a graph that nothing is known of but its ports: made by their names, types and shapes.

Sizes of symbolic dimensions that not every number fits (channels, an image's height) are in the artifact's metadata as
`sizes`; a sum such as "past_sequence_length + sequence_length" follows from its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.onnx_graphs.files import Array

SMALL = 8
"""Random integers lie below: ids that every vocabulary has."""


def sizes_of(artifact: Artifact) -> dict[str, int]:
    """The sizes of symbolic dimensions that an artifact asks for."""
    return {name: int(size) for name, size in artifact.metadata.get("sizes", {}).items()}


def random_inputs(
    part: Component, seed: int = 0, *, sizes: Mapping[str, int] | None = None, below: int = SMALL
) -> dict[str, Array]:
    """Inputs for every port of `part`: floats normal, integers random, masks 1, types of tokens 0.

    Unsigned integers are levels of quantized values, normal around the middle; signed ones are small.

    Args:
        sizes: of symbolic dimensions; each of the others has one size (1, 4, 5, ...).
        below: the limit of random integers.
    """
    random = np.random.default_rng(seed)
    found = _sizes(part.inputs, sizes or {})
    feeds: dict[str, Array] = {}
    for port in part.inputs:
        shape = [found[size] if isinstance(size, str) else size for size in port.shape]
        if port.dtype.startswith("float"):
            feeds[port.name] = random.standard_normal(shape).astype(port.dtype)
        elif port.dtype.startswith("uint"):
            top = np.iinfo(port.dtype).max
            feeds[port.name] = (top * random.normal(0.5, 0.1, shape)).clip(0, top).astype(port.dtype)
        elif port.name.endswith("mask"):
            feeds[port.name] = np.ones(shape, port.dtype)
        elif port.name.endswith("token_type_ids"):
            feeds[port.name] = np.zeros(shape, port.dtype)
        else:
            feeds[port.name] = random.integers(0, below, shape).astype(port.dtype)
    return feeds


def _sizes(ports: Sequence[Port], given: Mapping[str, int]) -> dict[str, int]:
    symbols = [size for port in ports for size in port.shape if isinstance(size, str)]
    single = dict.fromkeys(part.strip() for symbol in symbols for part in symbol.split("+"))
    sizes = {symbol: 1 if i == 0 else 3 + i for i, symbol in enumerate(single)} | dict(given)
    return {symbol: sum(_size(part.strip(), sizes) for part in symbol.split("+")) for symbol in symbols}


def _size(text: str, sizes: Mapping[str, int]) -> int:
    return int(text) if text.isdigit() else sizes[text]
