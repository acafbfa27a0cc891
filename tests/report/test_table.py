"""The comparison on the console and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from variant_fixtures import LEVELS, failure, manifest

from pocket_opt.report import render_table
from pocket_opt.report.rows import make_rows
from pocket_opt.report.table import csv_text


@pytest.fixture
def manifests(tmp_path: Path) -> list[dict[str, Any]]:
    return [manifest(tmp_path / level, level) for level in reversed(LEVELS)]


def printed(*arguments: Any, width: int = 140) -> str:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(render_table(*arguments))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, word: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [word])


def test_rows_are_sorted_and_compared_with_none(manifests: list[dict[str, Any]]) -> None:
    rows = make_rows(manifests)
    assert [row.level for row in rows] == list(LEVELS)
    assert [round(row.values["size_percent"]) for row in rows] == [100, 101, 51, 28, 15]
    assert "wer_delta" not in rows[0].values


def test_a_size_is_compared_with_its_own_source_whatever_other_rows_there_are(tmp_path: Path) -> None:
    high = manifest(tmp_path / "high", "HIGH")
    other = manifest(tmp_path / "none", "NONE", overrides=("recipe.model.path=<path>",))
    other["metrics"]["size"]["total_mb"]["value"] = 4.0
    for tables in ([high], [high, other]):
        assert make_rows(tables)[-1].values["size_percent"] == pytest.approx(28, abs=0.1)


def test_none_comes_first_whatever_its_target_is_called(tmp_path: Path) -> None:
    tables = [manifest(tmp_path / "a", "HIGH", target="arm"), manifest(tmp_path / "b", "NONE", target="cpu")]
    assert [row.level for row in make_rows(tables)] == ["NONE", "HIGH"]


def test_the_console_shows_each_variant_and_each_failure(manifests: list[dict[str, Any]]) -> None:
    text = printed(manifests, [failure()])
    assert "pocket_whisper · cpu" in text
    assert line_of(text, "NONE") == [
        "NONE",
        "0.40",
        f"{manifests[-1]['metrics']['size']['runtime_mb']['value']:.1f}",
        "100.0",
        "3.42",
        "0.0318",
        "3.28",
        "612",
        "native",
        "no",
        "budget",
    ]
    high = line_of(text, "HIGH")
    assert [*high[:2], *high[3:6]] == ["HIGH", "0.11", "28.0", "3.71", "+0.29"]
    assert line_of(text, "EXTREME")[-2:] == ["over", "budget"]
    assert "synthetic speech and a toy vocabulary: pocket_whisper" in text
    assert "failed: pocket_whisper · cpu · EXTREME" in text
    assert "<switch> it off" in text


def test_a_choice_is_said_below_the_table(tmp_path: Path) -> None:
    table = manifest(tmp_path / "a", "HIGH", target="cpu_best")
    table["metadata"]["chosen"] = {"runtime": "openvino", "why": "it is nearer"}
    assert "pocket_whisper HIGH: openvino was chosen: it is nearer" in printed([table])
    table["metadata"]["chosen"] = {"runtime": "openvino"}  # as written before there was a reason
    assert "was chosen" not in printed([table])


def test_names_that_differ_get_a_column(tmp_path: Path) -> None:
    tables = [
        manifest(tmp_path / "a", "HIGH", overrides=("nodes.quantize.params.bits=[4]",)),
        manifest(tmp_path / "b", "HIGH", recipe="whisper_tiny", target="web", weights="random"),
    ]
    text = printed(tables, width=180)
    assert {"recipe", "target", "set"} <= set(text.split())
    assert "nodes.quantize.params.bits=[4]" in text
    assert "random weights: for speed, size and parity only, no WER: whisper_tiny" in text


def test_what_a_user_set_is_shown_as_it_is(tmp_path: Path) -> None:
    overrides = ("nodes.weights.params.components=[encoder]", "nodes.weights.params.bits=[bold]4")
    text = printed([manifest(tmp_path, recipe="my[/x]recipe", overrides=overrides)], width=180)
    assert all(line in text for line in (*overrides, "my[/x]recipe"))


def test_only_failures_are_shown_too() -> None:
    assert printed([], [failure()]).startswith("failed: pocket_whisper · cpu · EXTREME")
    assert printed([], []).strip() == ""


def test_the_csv_has_every_metric_and_leaves_gaps_empty(manifests: list[dict[str, Any]]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(manifests, [failure()]))))
    assert [row["level"] for row in rows] == [*LEVELS, "EXTREME"]
    assert rows[0]["wer_delta"] == ""
    assert float(rows[3]["quality/wer"]) == 3.71
    assert float(rows[3]["latency/rtf_p50"]) == pytest.approx(0.004805)
    assert rows[3]["scope"] == "all 226 clips"
    assert [row["status"] for row in rows] == ["finished"] * 5 + ["failed"]
    assert rows[5]["reason"].startswith("node 'quantize'")
