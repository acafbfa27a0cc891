"""Models without a family, through the runner that their bundles carry: named arrays in, named arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.models.optimum.runner.opening import Model, open_model

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact


def open_graphs(artifact: Artifact, *, threads: int = 0) -> Model:
    """Open the graphs, or the source model, in `artifact`."""
    return open_model(artifact.root, threads=threads)
