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

GRAPHS = {"whisper": ("mel", "encoder", "decoder")}
"""Family -> the components that its export makes, which passes may be told to change."""

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
    """

    pass_name: str
    params: Mapping[str, Any]
    neutral: Mapping[str, Any]
    identity: Mapping[str, str]
    download: tuple[str, str] | None = None
    languages: tuple[str, ...] = LANGUAGES
    window_s: float | None = None


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
    languages = told_languages(path)
    positions = read_table(path / CONFIG).get("max_source_positions")
    window_s = positions / POSITIONS_PER_SECOND if isinstance(positions, int) else None
    identity = {"sha256": content}
    return Root(
        "load_source",
        {"digest": content},
        {"path": str(path)},
        identity,
        languages=languages,
        window_s=window_s,
    )


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
    if found != family:
        raise UserError(
            f"the model is of the architecture '{found}'",
            where=str(config),
            allowed=family,
            fix=f"choose a {family} model, or another recipe",
        )


def content_digest(directory: Path) -> str:
    """What identifies the model in `directory`: names and content of its files, not where they lie.

    Raises:
        UserError: the weights are not all there.
    """
    files = [directory / name for name in model_files(directory)]
    with DigestMemory() as memory:
        return tree_digest(directory, files, {path.name: memory.of(path) for path in files})
