"""Inputs that nobody recorded: what the graphs of a model without a family are measured on.

Shapes follow from the ports. A dimension that counts positions already in a cache is 0, so that graphs start afresh, as
the source model does; others are as in the artifact's metadata, or `length` long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pocket_opt.models.layout import CONFIG, read_table
from pocket_opt.passes.base import positive

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact, Component


@dataclass(frozen=True)
class MadeInputs:
    """Sizes of what is made.

    Attributes:
        length: of every symbolic dimension that no other number is known for; at most what the positions allow.
        sizes: of symbolic dimensions by name, before all others.
        seed: of the random values.
    """

    length: int = positive(64)
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def of(self, artifact: Artifact, graph: str, *, batch: int) -> dict[str, Any]:
        """Inputs of `graph`, whose dimension "batch_size" is `batch`."""
        from pocket_opt.onnx_graphs.inputs import SMALL, random_inputs, sizes_of

        part, config = artifact.components[graph], _config(artifact)
        length = min(self.length, int(config.get("max_position_embeddings") or self.length))
        sizes = dict.fromkeys(_symbols(part), length)
        sizes |= {name: 0 for name in sizes if name.startswith("past_")}
        sizes |= {"batch_size": batch, **sizes_of(artifact), **self.sizes}
        below = int(config.get("vocab_size") or SMALL)
        feeds = random_inputs(part, self.seed, sizes=sizes, below=below)
        for name, array in feeds.items():
            if name == "position_ids":
                feeds[name] = array * 0 + range(array.shape[-1])
        return feeds


def _symbols(part: Component) -> Iterator[str]:
    for port in part.inputs:
        for size in port.shape:
            if isinstance(size, str):
                yield from (piece.strip() for piece in size.split("+"))


def _config(artifact: Artifact) -> dict[str, Any]:
    """What config.json of the artifact says; nothing where it has none."""
    for part in artifact.components.values():
        if CONFIG in part.files:
            return read_table(artifact.root / CONFIG)
    return {}
