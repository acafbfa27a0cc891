"""What passes hand to one another: a directory of files, described as a table of components with named ports.

The description is `artifact.json` inside the directory, so an artifact can be moved, hashed and read
without loading a model. A bundle's manifest holds the same `components` and `metadata` tables.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

DESCRIPTION = "artifact.json"
SETTINGS = ("processor", "json")
"""Formats of components that are no model files: tokenizer, preprocessor, generation settings, results."""


@dataclass(frozen=True)
class Port:
    """One input or output of a graph. A symbolic dimension is a string, e.g. `("batch", 80, 3000)`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Component:
    """One graph, weight file or table of an artifact.

    Attributes:
        format: "onnx", "safetensors", "json", "processor" ...
        files: paths relative to the artifact's root; the first is the one to open.
        inputs, outputs: named ports, empty where the format has none.
    """

    format: str
    files: tuple[str, ...]
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """A table of components under `root`, with metadata that readers need (family, runtime, dimensions)."""

    root: Path
    components: Mapping[str, Component]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def path(self, component: str) -> Path:
        """The file to open for `component`."""
        return self.root / self.components[component].files[0]

    def file(self, component: str, name: str) -> Path:
        """The file called `name` (its last path part) of `component`; FileNotFoundError if it has none."""
        for relative in self.components[component].files:
            if Path(relative).name == name:
                return self.root / relative
        raise FileNotFoundError(f"component {component!r} has no file {name!r}")

    def size(self, component: str) -> int:
        """Bytes of all files of `component`."""
        return sum((self.root / name).stat().st_size for name in self.components[component].files)

    @property
    def models(self) -> dict[str, Component]:
        """The components that are model files."""
        return {name: part for name, part in self.components.items() if part.format not in SETTINGS}

    @property
    def model_mb(self) -> float:
        """MB (10^6 bytes) of all model files; one that two components share counts once."""
        files = {file for part in self.models.values() for file in part.files}
        return sum((self.root / file).stat().st_size for file in files) / 1e6

    def save(self) -> Artifact:
        """Write `artifact.json`; returns self."""
        (self.root / DESCRIPTION).write_text(json.dumps(self.describe(), indent=1, sort_keys=True) + "\n")
        return self

    def describe(self) -> dict[str, Any]:
        """The JSON form: `components` and `metadata`, without the root."""
        return {
            "components": {name: asdict(part) for name, part in self.components.items()},
            "metadata": dict(self.metadata),
        }

    @staticmethod
    def load(root: Path) -> Artifact:
        """Read the artifact described in `root/artifact.json`."""
        return read_description(root, json.loads((root / DESCRIPTION).read_text()))

    def carry(self, workdir: Path, *, without: tuple[str, ...] = ()) -> Artifact:
        """Link this artifact's components (except `without`) into `workdir` and return the artifact there."""
        kept = {name: part for name, part in self.components.items() if name not in without}
        for part in kept.values():
            for name in part.files:
                link_file(self.root / name, workdir / name)
        return replace(self, root=workdir, components=kept)

    def with_component(self, name: str, component: Component, **metadata: Any) -> Artifact:
        """A copy in which `name` is `component` and `metadata` is added."""
        return replace(
            self, components={**self.components, name: component}, metadata={**self.metadata, **metadata}
        )


def read_description(root: Path, table: Mapping[str, Any]) -> Artifact:
    """Build an artifact from the JSON form that `Artifact.describe` gives."""
    components = {
        name: Component(
            format=part["format"],
            files=tuple(part["files"]),
            inputs=tuple(_read_port(port) for port in part.get("inputs", ())),
            outputs=tuple(_read_port(port) for port in part.get("outputs", ())),
        )
        for name, part in table["components"].items()
    }
    return Artifact(root=root, components=components, metadata=dict(table.get("metadata", {})))


def _read_port(port: Mapping[str, Any]) -> Port:
    return Port(port["name"], port["dtype"], tuple(port["shape"]))


def link_file(source: Path, destination: Path) -> None:
    """Hard-link a read-only `source` to `destination`, or copy it where links cannot be had."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() or (os.access(source, os.W_OK) and source.stat().st_mode & 0o222):
        shutil.copyfile(source, destination)
        return
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, destination)
