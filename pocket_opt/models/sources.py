"""Where a model's files are and what identifies them, found without a network: the roots of every graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocket_opt import shipped
from pocket_opt.config.schema import ModelSource
from pocket_opt.errors import UserError
from pocket_opt.home import home, read_json, write_atomically
from pocket_opt.identity import digest, file_digest, tree_digest
from pocket_opt.models import hub
from pocket_opt.models.whisper.vocabulary import LANGUAGES, told_languages

CONFIG = "config.json"
GRAPHS = {"whisper": ("mel", "encoder", "decoder")}
"""Family -> the components that its export makes, which passes may be told to change."""

WEIGHTS = (".safetensors", ".bin")
SUFFIXES = (".json", ".txt", *WEIGHTS)


@dataclass(frozen=True)
class Root:
    """The root node of a graph: a pass with parameters.

    Attributes:
        download: the hub id and revision that must be fetched before the root's digest is known, or None.
        identity: the resolved hub revision or content digest, for the manifest.
        languages: codes of the languages that the model can be told.
    """

    pass_name: str
    params: Mapping[str, Any]
    neutral: Mapping[str, Any]
    identity: Mapping[str, str]
    download: tuple[str, str] | None = None
    languages: tuple[str, ...] = LANGUAGES


def resolve(source: ModelSource, family: str, *, seed: int, where: str) -> Root:
    """Find `source` on this machine.

    Args:
        where: the key of the source, e.g. "recipe.model", for errors.

    Raises:
        UserError: no source is named, or the directory is absent, incomplete or of another architecture.
    """
    if source.weights == "random":
        return _random(source, seed=seed, where=where)
    if source.path is not None:
        path = shipped.locate(source.path, holding=CONFIG, where=f"{where}.path").absolute()
        return _local(path, family, where=f"{where}.path")
    if source.hub is None:
        raise UserError(
            "no model is named",
            where=where,
            allowed="hub, path, or weights=random",
            fix=f"set {where}.path=DIR",
        )
    found = hub.cached(source.hub, source.revision)
    if found is None:
        identity = {"hub": source.hub, "revision": source.revision}
        return Root("load_source", {"digest": ""}, {"path": ""}, identity, (source.hub, source.revision))
    root = _local(found.path, family, where=f"{where}.hub")
    return replace(root, identity={"hub": source.hub, "revision": found.commit, **root.identity})


def _random(source: ModelSource, *, seed: int, where: str) -> Root:
    if not source.architecture:
        raise UserError(
            "random weights need the model's dimensions, and this recipe gives none",
            where=f"{where}.architecture",
            allowed="d_model, encoder_layers, decoder_layers, heads, mels, vocab",
            fix="take a recipe that has them (whisper_tiny ... whisper_large_v3_turbo), or add them",
        )
    params = {**source.architecture, "seed": seed}
    return Root("random_weights", params, {}, {"weights": "random", "seed": str(seed)})


def _local(path: Path, family: str, *, where: str) -> Root:
    if not path.is_dir():
        raise UserError(
            f"there is no directory {path}",
            where=where,
            allowed="a model in Hugging Face layout",
            fix="correct it",
        )
    _check_architecture(path, family, where=where)
    if not any(entry.suffix in WEIGHTS for entry in _files(path)):
        raise UserError(
            f"{path} holds no weights",
            where=where,
            allowed="model.safetensors, or pytorch_model.bin",
            fix="download the model again, or correct the path",
        )
    content = content_digest(path)
    identity = {"sha256": content}
    languages = told_languages(path)
    return Root("load_source", {"digest": content}, {"path": str(path)}, identity, languages=languages)


def _check_architecture(path: Path, family: str, *, where: str) -> None:
    config = path / CONFIG
    try:
        table = json.loads(config.read_text())
        found = table.get("model_type", "unknown")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} holds no config.json",
            where=where,
            allowed="a model in Hugging Face layout",
            fix="correct it",
        ) from error
    except (ValueError, AttributeError) as error:
        raise UserError(
            "config.json is damaged", where=str(config), fix="download the model again"
        ) from error
    if found != family:
        raise UserError(
            f"the model is of the architecture '{found}'",
            where=str(config),
            allowed=family,
            fix=f"choose a {family} model, or another recipe",
        )


def content_digest(directory: Path) -> str:
    """What identifies the model in `directory`: names and content of its files, not where they lie."""
    files = _files(directory)
    return tree_digest(directory, files, _file_digests(files))


def _files(directory: Path) -> list[Path]:
    return [entry for entry in sorted(directory.iterdir()) if entry.is_file() and entry.suffix in SUFFIXES]


def _file_digests(files: list[Path]) -> dict[str, str]:
    """SHA-256 by file name; big files are hashed once and then recognised by size, time and inode."""
    memory = home() / "digests.json"
    remembered = read_json(memory)
    known = remembered if isinstance(remembered, dict) else {}
    fresh = {}
    for path in files:
        stat = path.stat()
        stamp = digest("stamp", [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino])
        fresh[path.name] = (stamp, known.get(stamp) or file_digest(path))
    added = {stamp: value for stamp, value in fresh.values() if stamp not in known}
    if added:
        with suppress(OSError):  # it only saves hashing next time
            write_atomically(memory, json.dumps({**known, **added}))
    return {name: value for name, (_, value) in fresh.items()}
