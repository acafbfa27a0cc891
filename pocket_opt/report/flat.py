"""A manifest in the terms of an experiment tracker: flat parameters, grouped metrics, tags and a note.

Parameters are the same short keys on every variant, because charts drop runs that lack one; what may change without
making another variant (licence, verdict, commit) is a tag. A metric that was not measured is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from pocket_opt.config.schema import Intents
from pocket_opt.identity import digest
from pocket_opt.report.rows import COLUMNS, make_rows
from pocket_opt.report.table import number
from pocket_opt.results import FailureRecord

DECODING = (
    *("language", "task", "timestamps", "batch_size", "max_new_tokens", "beams", "length_penalty"),
    *("fallback", "condition_on_previous"),
)
NAMES = ("recipe", "target", "level", "level_rank", "overrides")
INTENT = "intent."
PARAMS = (
    *(*NAMES, "weights", "seed", "family", "runtime", "decoder", "decoding"),
    *(*DECODING, *(INTENT + intent.name for intent in fields(Intents)), "passes"),
)
"""The parameters of every run."""

LONGEST, LONGEST_NAME = 6000, 200
"""Characters of a parameter (MLflow's limit), and of a metric's name (MLflow takes 250, with the group)."""

_REFUSED = re.compile(r"[^\w.\- ]")
"""What may not be in the name of a metric in MLflow; its `/` would make groups."""


def params(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What was chosen, by the user and by the planner."""
    config = manifest["config"]
    decoding = config.get("decoding", {})
    table = {
        **{name: manifest[name] for name in (*NAMES, "weights", "seed")},
        "overrides": " ".join(manifest["overrides"]),
        "family": manifest["metadata"].get("family", ""),
        "runtime": manifest["metadata"].get("runtime", ""),
        "decoder": config.get("decoder", {}).get("name", ""),
        "decoding": decoding.get("name", ""),
        **{name: decoding.get(name) for name in DECODING},
        **{INTENT + name: value for name, value in config.get("level", {}).get("intents", {}).items()},
        "passes": " > ".join(_pass_text(node) for node in manifest["nodes"] if node["kind"] == "build"),
    }
    return _all(table)


def failure_params(failure: FailureRecord) -> dict[str, str]:
    """The same of a variant that failed, empty where only a finished one knows it."""
    return _all({**asdict(failure), "overrides": " ".join(failure.overrides)})


def metrics(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Every metric as `group/name`; also the level's rank, and whether the budget is kept where it was checked."""
    table = {
        f"{group}/{_metric_name(name)}": float(metric["value"])
        for group, found in manifest["metrics"].items()
        for name, metric in found.items()
    }
    table["level_rank"] = float(manifest["level_rank"])
    if manifest["budget"]["verdict"] != "no_budget":
        table["budget/within"] = float(manifest["budget"]["verdict"] == "within")
    return table


def steps(manifest: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """`(name, value, step)` of the passes in their order: seconds of each, and MB after it."""
    for position, node in enumerate(manifest["nodes"]):
        yield "pass/duration_s", float(node["seconds"]), position
        if node["kind"] == "build":
            yield "pass/size_mb", node["bytes_after"] / 1e6, position


def tags(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Identity and provenance."""
    git = manifest.get("git", {})
    return {
        **identity(manifest),
        "budget": manifest["budget"]["verdict"],
        "verified": manifest["verified"]["how"],
        "verified_scope": manifest["verified"]["scope"],
        "labels": "; ".join(manifest["labels"]),
        "license": manifest["license"],
        "git_commit": git.get("commit", "") + ("+changes" if git.get("dirty") else ""),
        "measured_on": f"{manifest['host']['cpu']}, {manifest['host']['cores']} cores",
        "files_sha256": digest("files", manifest["files"]),
        "mlflow.note.content": note(manifest),
    }


def identity(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a variant's run is found by."""
    return {f"{name}_key": key for name, key in manifest["identities"].items()}


def run_name(variant: Mapping[str, Any] | FailureRecord) -> str:
    """Short and readable: level, target, overrides."""
    table = variant if isinstance(variant, Mapping) else vars(variant)
    return " ".join([table["level"], table["target"], *table["overrides"]])


def note(manifest: Mapping[str, Any]) -> str:
    """Markdown: what this is, and the numbers that variants are compared by."""
    [row] = make_rows([manifest])
    lines = [
        f"**{row.recipe}** for **{row.target}**, level **{row.level}** {' '.join(row.overrides)}".strip(),
        "",
    ]
    lines += [f"- {label}" for label in row.labels]
    lines += [f"- {row.choice}"] if row.choice else []
    lines += [f"- budget: {row.verdict.replace('_', ' ')}", f"- verified: {row.verified}, {row.scope}", ""]
    lines += ["| metric | value |", "| --- | ---: |"]
    for column in COLUMNS:
        if column.key in row.values:
            value = number(row.values[column.key], column.digits, column.key)
            lines.append(f"| {column.name} | {f'{value} {column.unit}'.strip()} |")
    return "\n".join(lines) + "\n"


def plan_text(manifest: Mapping[str, Any]) -> str:
    """The graph as it ran, a line a node."""
    lines = []
    for node in manifest["nodes"]:
        sources = f" <- {', '.join(node['inputs'])}" if node["inputs"] else ""
        size = f", {node['bytes_after'] / 1e6:.2f} MB" if node["kind"] == "build" else ""
        lines.append(
            f"{node['name']}: {_pass_text(node)}{sources} ({node['seconds']:.1f} s{size}, key {node['key'][:12]})"
        )
    return "\n".join(lines) + "\n"


def _pass_text(node: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name}={_plain(value)}" for name, value in node["params"].items())
    return f"{node['pass']}({settings})" if settings else str(node["pass"])


def _plain(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:12] + "…" if len(text) == 64 else text


def _metric_name(text: str) -> str:
    """`text`, which may hold a condition of the user's data, in MLflow's alphabet; another text, another name."""
    clean = _REFUSED.sub("_", text)[:LONGEST_NAME]
    return text if clean == text else f"{clean}_{digest('metric', text)[:6]}"


def _all(table: Mapping[str, Any]) -> dict[str, str]:
    return {name: _short(table.get(name, "")) for name in PARAMS}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
