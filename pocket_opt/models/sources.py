"""Where a model's files are and what identifies them, found without a network: the roots of every graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocket_opt import shipped
from pocket_opt.config.schema import ModelSource
from pocket_opt.digests import DigestMemory
from pocket_opt.errors import UserError
from pocket_opt.identity import tree_digest
from pocket_opt.models import hub
from pocket_opt.models.layout import CONFIG, model_files, read_table, unreadable
from pocket_opt.models.whisper.vocabulary import LANGUAGES, Vocabulary, told_languages

WHISPER, OPTIMUM = "whisper", "optimum"
GRAPHS = {WHISPER: ("mel", "encoder", "prefill", "decoder")}
"""Family -> the components that its export makes, which passes may be told to change; Optimum's show later."""
LOADERS = {WHISPER: "load_source", OPTIMUM: "load_checkpoint"}
"""Family -> the pass that reads its checkpoints."""

PUBLISHED = {"vocab": 51_865, "source_positions": 1_500}
"""What `random_weights` takes where an architecture does not say."""


POSITIONS_PER_SECOND = 50
"""Of the encoder's output in every Whisper."""


@dataclass(frozen=True)
class Root:
    """The root node of a graph: a pass with parameters.

    Attributes:
        download: the hub id and revision that must be fetched before the root's digest is known, or None.
        identity: the resolved hub revision or content digest, for the manifest.
        languages: codes of the languages that the model can be told.
        window_s: seconds of audio that the model sees at once; None where that is not known yet.
        model_type, class_name: architecture as config.json names it; empty where that is not known yet.
    """

    pass_name: str
    params: Mapping[str, Any]
    neutral: Mapping[str, Any]
    identity: Mapping[str, str]
    download: tuple[str, str] | None = None
    languages: tuple[str, ...] = LANGUAGES
    window_s: float | None = None
    model_type: str = ""
    class_name: str = ""


def resolve(source: ModelSource, family: str, *, seed: int, where: str) -> Root:
    """Find `source` on this machine.

    Args:
        where: the key of the source, e.g. "recipe.model", for errors.

    Raises:
        UserError: no source is named, or the directory is absent, incomplete or of another architecture.
    """
    if source.weights == "random":
        _require_known_shapes(family, where=where)
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
        download = (source.hub, source.revision)
        return Root(LOADERS[family], {"digest": ""}, {"path": ""}, identity, download)
    root = _local(found.path, family, where=f"{where}.hub")
    return replace(root, identity={"hub": source.hub, "revision": found.commit, **root.identity})


def _require_known_shapes(family: str, *, where: str) -> None:
    if family != WHISPER:
        raise UserError(
            f"random weights are made for the family {WHISPER}, not for {family}",
            where=f"{where}.weights",
            fix=f"save such a model by transformers (save_pretrained) and set {where}.path=DIR",
        )


def _random(source: ModelSource, *, seed: int, where: str) -> Root:
    if not source.architecture:
        raise UserError(
            "random weights need the model's dimensions, and this recipe gives none",
            where=f"{where}.architecture",
            allowed="d_model, encoder_layers, decoder_layers, heads, mels, vocab",
            fix="take a recipe that has them (whisper_tiny ... whisper_large_v3_turbo), or add them",
        )
    params = {**source.architecture, "seed": seed}
    identity = {"weights": "random", "seed": str(seed)}
    languages = _random_languages(source.architecture, where)
    window_s = {**PUBLISHED, **source.architecture}["source_positions"] / POSITIONS_PER_SECOND
    return Root("random_weights", params, {}, identity, languages=languages, window_s=window_s)


def _random_languages(architecture: Mapping[str, int], where: str) -> tuple[str, ...]:
    size = {**PUBLISHED, **architecture}
    try:
        vocabulary = Vocabulary.of_size(size["vocab"], size["source_positions"] / POSITIONS_PER_SECOND)
    except UserError as error:
        error.where = f"{where}.architecture.{error.where}"
        raise
    return vocabulary.languages if vocabulary.multilingual else ("en",)


def _local(path: Path, family: str, *, where: str) -> Root:
    try:
        _check_architecture(path, family, where=where)
        content = content_digest(path)
    except OSError as error:
        raise unreadable(error, Path(error.filename or path)) from error
    root = Root(LOADERS[family], {"digest": content}, {"path": str(path)}, {"sha256": content})
    config = read_table(path / CONFIG)
    if family == OPTIMUM:
        name = str(next(iter(config.get("architectures") or ()), ""))
        return replace(root, languages=(), model_type=str(config.get("model_type", "")), class_name=name)
    positions = config.get("max_source_positions")
    window_s = positions / POSITIONS_PER_SECOND if isinstance(positions, int) else None
    return replace(root, languages=told_languages(path), window_s=window_s)


def _check_architecture(path: Path, family: str, *, where: str) -> None:
    config = path / CONFIG
    if not path.is_dir() or not config.exists():
        raise UserError(
            f"{path} holds no {CONFIG}" if path.is_dir() else f"there is no directory {path}",
            where=where,
            allowed="a model in Hugging Face layout",
            fix="correct it",
        )
    found = read_table(config).get("model_type", "unknown")
    if family not in (found, OPTIMUM):
        raise UserError(
            f"the model is of the architecture '{found}'",
            where=str(config),
            allowed=family,
            fix=f"choose a {family} model, or another recipe (family: {OPTIMUM} takes any architecture of Optimum's)",
        )


def content_digest(directory: Path) -> str:
    """What identifies the model in `directory`: names and content of its files, not where they lie.

    Raises:
        UserError: the weights are not all there.
    """
    files = [directory / name for name in model_files(directory)]
    with DigestMemory() as memory:
        return tree_digest(directory, files, {path.name: memory.of(path) for path in files})
