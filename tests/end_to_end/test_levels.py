"""All five levels in one sweep: five bundles, five MLflow runs, one table, and every distinct node once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real_command import SWITCHED_OFF, Command
from test_concurrency import cached, computed

from pocket_opt.config.schema import LEVELS
from pocket_opt.store import Store

SWEEP = f"level={','.join(LEVELS)}"
MEASURED = tuple(f"~nodes.{name}" for name in SWITCHED_OFF if name != "baseline.quality")


@pytest.fixture(scope="module")
def sweep(speech: Path, quick_root: Path) -> tuple[Command, str]:
    """The finished sweep and what it printed."""
    place = quick_root / "sweep"
    command = Command(speech / "tiny.yaml", place / "home", place / "outputs")
    done = _run(command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return command, done.stdout


def _run(command: Command) -> subprocess.CompletedProcess[str]:
    words = ["-m", SWEEP, f"recipe={command.recipe}", f"output_dir={command.output}"]
    words += [*MEASURED, "data.evaluation.limit=2", "decoding.max_new_tokens=8"]
    return subprocess.run(
        [sys.executable, "-m", "pocket_opt", *words],
        capture_output=True,
        text=True,
        env=command.environment(),
        check=False,
    )


def manifests(command: Command) -> dict[str, dict[str, Any]]:
    tables = [json.loads((path / "manifest.json").read_text()) for path in command.bundles()]
    return {table["level"]: table for table in tables}


def test_five_bundles(sweep: tuple[Command, str]) -> None:
    command, _ = sweep
    found = manifests(command)
    assert set(found) == set(LEVELS)
    assert len(command.bundles()) == 5
    for level in LEVELS[1:]:
        assert "wer_delta" in found[level]["metrics"]["quality"]
        assert found[level]["baseline"]["quality"]["wer"] == found["NONE"]["metrics"]["quality"]["wer"]
    sizes = [found[level]["metrics"]["size"]["total_mb"]["value"] for level in LEVELS]
    assert sizes[2] < sizes[1]
    assert sizes[4] < sizes[3] < sizes[2]


def test_every_distinct_node_ran_once(sweep: tuple[Command, str]) -> None:
    command, text = sweep
    distinct = {
        (node["name"], node["key"]) for table in manifests(command).values() for node in table["nodes"]
    }
    ran = computed(text)
    keys = {key for _, key in distinct}
    assert sum(ran.values()) == len(keys) == len(Store(command.home / "store").entries())
    assert ran["source"] == 1
    assert ran["quality"] == 5
    assert "baseline.quality" not in ran
    assert cached(text)["baseline.quality"] == 4
    assert ran["fuse"] == 2


def test_one_table_with_five_rows(sweep: tuple[Command, str]) -> None:
    _, text = sweep
    table = text[text.index("verified") :]
    rows = [line.split()[0] for line in table.splitlines() if line.strip() and line.split()[0] in LEVELS]
    assert rows == list(LEVELS)
    assert text.count("verified") == 1


def test_five_runs_under_one_sweep(sweep: tuple[Command, str]) -> None:
    from mlflow import MlflowClient

    command, _ = sweep
    client = MlflowClient(tracking_uri=f"sqlite:///{command.output}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    variants = client.search_runs(experiments, "tags.kind = 'variant'")
    [parent] = client.search_runs(experiments, "tags.kind = 'sweep'")
    assert Counter(run.info.status for run in [*variants, parent]) == Counter({"FINISHED": 6})
    assert {run.data.params["level"] for run in variants} == set(LEVELS)
    assert {run.data.tags["mlflow.parentRunId"] for run in variants} == {parent.info.run_id}


def test_the_same_again_runs_nothing(sweep: tuple[Command, str]) -> None:
    command, _ = sweep
    before = {path: path.stat().st_mtime_ns for bundle in command.bundles() for path in bundle.rglob("*")}
    again = _run(command)
    assert again.returncode == 0, again.stderr
    assert computed(again.stdout) == Counter()
    assert again.stdout.count("nodes were cached") == 5
    assert {
        path: path.stat().st_mtime_ns for bundle in command.bundles() for path in bundle.rglob("*")
    } == before


def test_a_launcher_of_hydra_makes_the_same_bundles(cached_command: Command) -> None:
    plain = cached_command.run("tracking=none")
    assert plain.returncode == 0, plain.stderr
    before = cached_command.bundles()
    launched = cached_command.run("-m", "hydra/launcher=basic", "tracking=none")
    assert launched.returncode == 0, launched.stderr
    assert "nodes were cached" in launched.stdout
    assert cached_command.bundles() == before
