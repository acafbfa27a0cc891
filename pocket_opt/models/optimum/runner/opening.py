"""Open the model in a directory in the runtime that it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

DESCRIPTIONS = ("manifest.json", "artifact.json")
Arrays: TypeAlias = "Mapping[str, NDArray[np.generic]]"
"""Tensors by the names of ports."""


class RequestError(ValueError):
    """Something that this model cannot be asked for; the message is for people."""


class Model(Protocol):
    """An opened model.

    Attributes:
        load_seconds: time that opening took.
    """

    load_seconds: float

    def run(self, graph: str, inputs: Arrays) -> dict[str, Any]:
        """The outputs of one graph by name; RequestError for a graph that is not there."""
        ...


def read_table(directory: Path) -> dict[str, Any]:
    """Components and metadata of the model in `directory`; RequestError if there is none, or a damaged one."""
    for name in DESCRIPTIONS:
        if (directory / name).is_file():
            try:
                table: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise RequestError(f"{directory / name}: damaged ({error})") from None
            return table
    raise RequestError(f"{directory}: neither {' nor '.join(DESCRIPTIONS)} is there")


def open_model(directory: Path, *, threads: int = 0) -> Model:
    """The model in `directory`; `threads` 0 leaves their number to its runtime. RequestError if there is none."""
    table = read_table(directory)
    if table["metadata"].get("runtime") == "transformers":
        from .source_model import SourceModel

        return SourceModel(directory, threads=threads)
    from .graphs import Graphs

    return Graphs(directory, table, threads=threads)
