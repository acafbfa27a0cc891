"""Manifests as rows: the few numbers that variants are compared by, the same for console, CSV and page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pocket_opt.bundle.manifest import choice_of, metric_value


@dataclass(frozen=True)
class Column:
    """One number of a variant.

    Attributes:
        key: name in CSV and page.
        title, name, unit: as people read them: heading of a column, name of an axis, unit of both.
        source: `(group, metric)` in the manifest.
        digits: decimals shown.
        axis: whether it can be an axis of the Pareto plot (smaller is better).
    """

    key: str
    title: str
    name: str
    unit: str
    source: tuple[str, str]
    digits: int
    axis: bool = True


COLUMNS = (
    Column("size_mb", "size", "Size", "MB", ("size", "total_mb"), 2),
    Column("runtime_mb", "runtime", "Runtime libraries", "MB", ("size", "runtime_mb"), 1, axis=False),
    Column("size_percent", "of NONE", "Size against NONE", "%", ("size", "ratio_to_source"), 1),
    Column("wer", "WER", "Word error rate", "%", ("quality", "wer"), 2),
    Column("wer_delta", "change", "Change of WER against NONE", "points", ("quality", "wer_delta"), 2),
    Column("total_ms", "latency", "Latency of one window", "ms", ("latency", "total_ms_p50"), 1),
    Column("rtf", "RTF", "Real-time factor", "", ("latency", "rtf_p50"), 4),
    Column("per_token_ms", "token", "Time for one token", "ms", ("latency", "per_token_ms_p50"), 2),
    Column("load_s", "load", "Time to load", "s", ("latency", "load_s_p50"), 2),
    Column("peak_mb", "memory", "Peak memory", "MB", ("memory", "peak_mb"), 0),
)
"""What is compared, in the order it is shown. `size_percent` is against the source model, which level NONE is."""


@dataclass(frozen=True)
class Row:
    """A variant as it is compared.

    Attributes:
        choice: which runtime the target chose and why; empty where it has no choice.
        values: by column; what was not measured is missing.
    """

    recipe: str
    target: str
    level: str
    level_rank: int
    overrides: tuple[str, ...]
    verdict: str
    verified: str
    scope: str
    labels: tuple[str, ...]
    choice: str
    values: Mapping[str, float]
    manifest: Mapping[str, Any]

    @property
    def order(self) -> tuple[Any, ...]:
        """Recipe, target, level, then overrides; NONE, which all targets share, comes first."""
        return self.recipe, "" if self.level_rank == 0 else self.target, self.level_rank, self.overrides


def make_rows(manifests: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows of manifests, sorted by recipe, target and level."""
    return sorted(map(_row, manifests), key=lambda row: row.order)


def _row(manifest: Mapping[str, Any]) -> Row:
    return Row(
        recipe=manifest["recipe"],
        target=_target(manifest),
        level=manifest["level"],
        level_rank=manifest["level_rank"],
        overrides=tuple(manifest["overrides"]),
        verdict=manifest["budget"]["verdict"],
        verified=manifest["verified"]["how"],
        scope=manifest["verified"]["scope"],
        labels=tuple(manifest["labels"]),
        choice=choice_of(manifest),
        values=_values(manifest),
        manifest=manifest,
    )


def _target(manifest: Mapping[str, Any]) -> str:
    """The target; with the runtime, where the target chose between several."""
    chosen = manifest["metadata"].get("chosen")
    return f"{manifest['target']} ({chosen['runtime']})" if chosen else str(manifest["target"])


def _values(manifest: Mapping[str, Any]) -> dict[str, float]:
    found = {column.key: metric_value(manifest, *column.source) for column in COLUMNS}
    return {key: value for key, value in found.items() if value is not None}
