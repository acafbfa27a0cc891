"""A bundle and how it is written: model files, runner, measurements, manifest and card, in one atomic step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, read_description
from pocket_opt.bundle.card import write_card
from pocket_opt.bundle.manifest import (
    SCHEMA_VERSION,
    build_manifest,
    read_manifest,
    without_times,
    write_manifest,
)
from pocket_opt.bundle.publication import (
    CARD,
    FALLBACK,
    MANIFEST,
    MEASUREMENTS,
    place_file,
    publish,
    staging,
)
from pocket_opt.bundle.schema import schema_errors
from pocket_opt.bundle.scrub import scrub
from pocket_opt.disk import storage_error
from pocket_opt.errors import PocketOptError
from pocket_opt.home import read_json
from pocket_opt.identity import file_digest
from pocket_opt.measures import BASELINE
from pocket_opt.models.standalone import RUNNER, RUNNER_MODULES, runner_files
from pocket_opt.results import VariantRecord

_RESULT = "result"
_FOLDERS = (MEASUREMENTS, RUNNER_MODULES, FALLBACK)


@dataclass(frozen=True)
class Bundle:
    """A directory with everything that one variant needs, and its manifest (read, of the present schema version)."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def artifact(self) -> Artifact:
        """The model in the bundle."""
        return read_description(self.path, self.manifest)


def open_bundle(path: Path) -> Bundle:
    """The bundle in the directory `path`.

    Raises:
        UserError: there is none, or it was written by a newer version of this package.
        PocketOptError: its manifest is damaged.
    """
    return Bundle(path, read_manifest(path))


def write_bundle(
    variant: VariantRecord,
    artifact: Artifact,
    destination: Path,
    *,
    measurements: Mapping[str, Artifact] | None = None,
    fallback: Bundle | None = None,
) -> Bundle:
    """Write the bundle of `variant` to the directory `destination` and return it.

    An older bundle there is replaced when the new one is complete; an equal one is kept as it is.

    Args:
        artifact: the model, its files read-only where they may be shared with the bundle by hard link.
        measurements: measure node -> its artifact; what it holds (hypotheses, tables) goes to `measurements/<node>/`.
        fallback: the same model for the CPU; goes to `fallback/` as it is.

    Raises:
        PocketOptError: two files want the same place, or the disk refuses.
    """
    try:
        with staging(destination) as stage:
            _place_model(artifact, stage)
            _place_runner(artifact, stage)
            _place_measurements(measurements or {}, stage)
            _place_fallback(fallback, stage)
            older = _older(destination)
            rows = _file_rows(stage, destination, older)
            manifest = build_manifest(variant, artifact, rows, fallback.manifest if fallback else None)
            if older is not None and _is_same(manifest, older, stage, destination):
                return Bundle(destination, older)
            _check(manifest)
            write_manifest(stage, manifest)
            write_card(stage, manifest)
            publish(stage, destination)
            return Bundle(destination, manifest)
    except OSError as error:
        raise storage_error(error, destination) from error


def _check(manifest: Mapping[str, Any]) -> None:
    problems = schema_errors(manifest)
    if problems:
        raise PocketOptError(
            "the manifest would not follow its own schema",
            where="; ".join(problems[:3]),
            fix="correct the measurement or the pass that reports this",
        )


def _place_model(artifact: Artifact, stage: Path) -> None:
    for name in sorted({file for part in artifact.components.values() for file in part.files}):
        if name in (MANIFEST, CARD, RUNNER) or Path(name).parts[0] in _FOLDERS:
            raise PocketOptError(
                f"a model file is called '{name}', which a bundle needs for itself",
                where=str(artifact.root),
                fix="let the pass that wrote it choose another name",
            )
        place_file(artifact.root / name, stage / name)


def _place_runner(artifact: Artifact, stage: Path) -> None:
    (stage / RUNNER_MODULES).mkdir()
    for name, source in runner_files(artifact.metadata).items():
        shutil.copyfile(source, stage / name)


def _place_measurements(measurements: Mapping[str, Artifact], stage: Path) -> None:
    """Results as JSON without paths; every other file as it is. Those of the baseline are in its own bundle."""
    for node, measured in measurements.items():
        if node.startswith(BASELINE):
            continue
        first, *others = measured.components[_RESULT].files
        folder = stage / MEASUREMENTS / node
        folder.mkdir(parents=True)
        table = scrub(json.loads((measured.root / first).read_text(encoding="utf-8")))
        text = json.dumps(table, indent=1, ensure_ascii=False)
        (folder / first).write_text(text + "\n", encoding="utf-8")
        for name in others:
            place_file(measured.root / name, folder / name)


def _place_fallback(fallback: Bundle | None, stage: Path) -> None:
    if fallback is not None:
        for name in (MANIFEST, CARD, *(row["path"] for row in fallback.manifest["files"])):
            place_file(fallback.path / name, stage / FALLBACK / name)


def _older(destination: Path) -> dict[str, Any] | None:
    """The manifest of the bundle that is there now, if it is one of the present schema version."""
    table = read_json(destination / MANIFEST)
    if not isinstance(table, dict) or table.get("schema_version") != SCHEMA_VERSION:
        return None
    rows = table.get("files", ())
    return (
        table
        if all(isinstance(row, dict) and {"path", "size", "sha256"} <= row.keys() for row in rows)
        else None
    )


def _file_rows(stage: Path, destination: Path, older: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    known = dict(_known_digests(destination, older)) if older is not None else {}
    rows = []
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        stat = path.stat()
        sha256 = known.get((stat.st_dev, stat.st_ino, stat.st_size)) or file_digest(path)
        rows.append({"path": path.relative_to(stage).as_posix(), "size": stat.st_size, "sha256": sha256})
    return rows


def _known_digests(destination: Path, older: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int, int], str]]:
    """Digests in an older manifest of files that were not written to since: the same inode needs no second hash."""
    written = (destination / MANIFEST).stat().st_mtime_ns
    for row in older["files"]:
        path = destination / row["path"]
        if path.is_file():
            stat = path.stat()
            if stat.st_size == row["size"] and stat.st_mtime_ns <= written:
                yield (stat.st_dev, stat.st_ino, stat.st_size), row["sha256"]


def _is_same(manifest: Mapping[str, Any], older: Mapping[str, Any], stage: Path, destination: Path) -> bool:
    """Whether the bundle at `destination` is what would be written: equal manifest, every file there and intact."""
    if without_times(older) != without_times(manifest):
        return False
    names = [row["path"] for row in manifest["files"]]
    return (destination / CARD).is_file() and all(
        (destination / name).is_file() and _is_equal(stage / name, destination / name) for name in names
    )


def _is_equal(new: Path, old: Path) -> bool:
    return new.samefile(old) or (
        new.stat().st_size == old.stat().st_size and file_digest(new) == file_digest(old)
    )
