"""The manifest of a bundle: everything known of a variant as one JSON table, and how older tables are read.

Tracking, reports, the card and the stand-alone runner read only this. `manifest.schema.json` is its JSON Schema; a
change that an older reader could misunderstand raises SCHEMA_VERSION and adds an entry to UPGRADES and a golden file to
the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.budget import judge
from pocket_opt.bundle.metrics import collect, collect_baseline, sizes
from pocket_opt.bundle.provenance import git_state, tool_versions
from pocket_opt.bundle.publication import FALLBACK, MANIFEST
from pocket_opt.bundle.runtime_size import runtime_size
from pocket_opt.bundle.scrub import scrub, scrub_override
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.hosts import host
from pocket_opt.results import NodeRecord, VariantRecord
from pocket_opt.shipped import is_shipped

SCHEMA_VERSION = 1
UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version -> the function that turns a manifest of it into one of the next version."""

RANDOM_WEIGHTS = "random weights: for speed, size and parity only, no WER"
SYNTHETIC_SAMPLE = "shipped sample model: synthetic speech and a toy vocabulary"
SYNTHETIC_DATA = "quality measured on synthetic speech"


def build_manifest(
    variant: VariantRecord,
    artifact: Artifact,
    files: Sequence[Mapping[str, Any]],
    fallback: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of `variant`, whose model is `artifact`.

    Args:
        files: `{"path", "size", "sha256"}` of every file of the bundle beside the manifest and the card.
        fallback: manifest of the bundle that this one encloses.
    """
    size = {**sizes(artifact, variant.nodes), **runtime_size(artifact.metadata)}
    metrics = collect(variant.measurements, size)
    git = git_state()
    table = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": variant.recipe,
        "target": variant.target,
        "level": variant.level,
        "level_rank": variant.level_rank,
        "overrides": [scrub_override(line) for line in variant.overrides],
        "identities": {
            "build": variant.build_key,
            "measurement": variant.measurement_key,
            "row": variant.row_key,
        },
        "labels": labels(variant),
        "license": variant.license,
        "weights": variant.weights,
        "seed": variant.seed,
        "sources": {name: dict(identity) for name, identity in variant.sources.items()},
        "assignment": {name: dict(part) for name, part in variant.components.items()},
        **scrub(artifact.describe()),
        "verified": dict(variant.verified),
        "budget": judge(variant.budget, metrics),
        "metrics": metrics,
        "baseline": collect_baseline(variant.measurements),
        "details": {name: scrub(table.get("details", {})) for name, table in variant.measurements.items()},
        "nodes": [_node(record) for record in variant.nodes],
        "files": [dict(row) for row in files],
        "config": scrub(variant.config),
        "tools": tool_versions(),
        "host": dict(host()),
    }
    beside = {"fallback": _enclosed(fallback)} if fallback else {}
    plain: dict[str, Any] = json.loads(
        json.dumps({**table, **({"git": git} if git else {}), **beside}, allow_nan=False)
    )
    return plain


def _enclosed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the bundle in its folder `fallback`, whose own manifest has everything."""
    told = ("target", "level", "identities", "verified", "budget", "metrics")
    return {"path": FALLBACK, **{name: manifest[name] for name in told}}


def labels(variant: VariantRecord) -> list[str]:
    """What must be said beside every number of this variant."""
    if variant.weights == "random":
        return [RANDOM_WEIGHTS]
    recipe = variant.config.get("recipe", {})
    own = variant.config.get("data", {}).get("evaluation", {}).get("path")
    is_sample = is_shipped(str(recipe.get("model", {}).get("path") or ""))
    clips = str(own or recipe.get("data", {}).get("evaluation") or "")
    return [
        *([SYNTHETIC_SAMPLE] if is_sample else []),
        *([SYNTHETIC_DATA] if is_shipped(clips) and "quality" in variant.measurements else []),
    ]


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write `directory/manifest.json`."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the bundle `directory`, in the form of the present schema version.

    Raises:
        UserError: there is no bundle, or its manifest was written by a newer version of this package.
        PocketOptError: the manifest is damaged.
    """
    path = directory / MANIFEST
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{directory} is no bundle: it has no {MANIFEST}",
            where=str(directory),
            fix="name the directory that an optimization printed, e.g. outputs/<recipe>/<target>/<level>-<row>",
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return upgrade(table, path)


def upgrade(table: Any, path: Path) -> dict[str, Any]:
    """Bring a manifest of any older schema version to the present one."""
    number = table.get("schema_version") if isinstance(table, dict) else None
    if not isinstance(number, int) or number < 1:
        raise _damaged(path, "it has no schema_version")
    if number > SCHEMA_VERSION:
        raise UserError(
            f"the bundle has schema version {number}, this installation reads up to {SCHEMA_VERSION}",
            where=str(path),
            fix="install a newer pocket_opt",
        )
    for step in range(number, SCHEMA_VERSION):
        table = UPGRADES[step](table)
    found: dict[str, Any] = table
    return found


def without_times(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without the time it was written, for comparing two."""
    return {key: value for key, value in manifest.items() if key != "created"}


def metric_value(manifest: Mapping[str, Any], group: str, name: str) -> float | None:
    """The value of one metric, or None if it was not measured."""
    metric = manifest["metrics"].get(group, {}).get(name)
    return None if metric is None else float(metric["value"])


def choice_of(manifest: Mapping[str, Any]) -> str:
    """Which runtime a target that chooses between several took, and why; empty for other targets."""
    chosen = manifest["metadata"].get("chosen", {})
    return f"{chosen['runtime']} was chosen: {chosen['why']}" if "why" in chosen else ""


def _node(record: NodeRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "pass": record.pass_name,
        "version": record.version,
        "kind": record.kind,
        "params": scrub(record.params),
        "inputs": list(record.inputs),
        "key": record.key,
        "seconds": record.seconds,
        "bytes_before": record.bytes_before,
        "bytes_after": record.bytes_after,
        "did": scrub(record.did),
    }


def _damaged(path: Path, why: str) -> PocketOptError:
    return PocketOptError(
        f"the manifest is damaged ({why})", where=str(path), fix="run the optimization again"
    )
