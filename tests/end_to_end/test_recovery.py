"""`kill -9` at any moment and at every step of publication and tracking: the same command finishes what is missing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_command import ROOT, Command

from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.cli.main import main
from pocket_opt.store import Store

KILLER = str(ROOT / "tests" / "killed_at.py")
BUNDLE_STEPS = [
    ("pocket_opt.bundle.layout:_place_model", "after", 1),
    ("pocket_opt.bundle.layout:write_manifest", "after", 1),
    ("pocket_opt.bundle.layout:publish", "before", 1),
    ("pocket_opt.bundle.publication:sync", "before", 5),
    ("pocket_opt.bundle.layout:publish", "after", 1),
    ("pocket_opt.sessions:Session._write", "before", 1),
    ("pocket_opt.sessions:write_report", "before", 1),
    ("pocket_opt.sessions:write_report", "after", 1),
]
REPLACE_STEPS = [
    ("pocket_opt.bundle.publication:_exchange", "before", 1),
    ("pocket_opt.bundle.publication:_exchange", "after", 1),
]
CLIENT = "mlflow:MlflowClient"
TRACKING_STEPS = [
    (f"{CLIENT}.create_experiment", "before", 1),
    (f"{CLIENT}.create_run", "before", 1),
    (f"{CLIENT}.create_run", "after", 1),
    (f"{CLIENT}.create_logged_model", "after", 1),
    (f"{CLIENT}.log_artifacts", "after", 1),
    (f"{CLIENT}.log_batch", "after", 1),
    (f"{CLIENT}.set_terminated", "before", 1),
    (f"{CLIENT}.set_terminated", "after", 1),
]


def named(step: tuple[str, str, int]) -> str:
    return f"{step[1]} {step[0].partition(':')[2]} {step[2]}"


def kill_at(command: Command, step: tuple[str, str, int], *words: str) -> None:
    """Run the command until it reaches the step, where it dies."""
    target, when, number = step
    arguments = [sys.executable, KILLER, target, when, str(number), "pocket_opt", *command.arguments(*words)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=command.environment(), cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL, f"it did not reach the step: {done.stdout}{done.stderr}"


def finish(command: Command, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The same command again, in this process; it succeeds, and leaves one sound bundle and nothing else."""
    capsys.readouterr()
    code = main(command.arguments(*words))
    captured = capsys.readouterr()
    assert code == 0, captured.out + captured.err
    assert "warning" not in captured.err
    check(command)
    return captured.out


def check(command: Command) -> None:
    """One sound bundle, nothing half-written beside it or in the store."""
    [bundle] = command.bundles()
    assert [finding for finding in validate_bundle(bundle) if not finding.ok] == []
    beside = {path.name for path in bundle.parent.iterdir()}
    assert not {name for name in beside if ".new-" in name or ".old-" in name}
    store = Store(command.home / "store")
    assert not list((store.root / "parts").iterdir())
    assert not store.quarantine.exists()
    assert (command.output / "report.html").is_file()
    assert not list(command.output.glob(".mlflow.db.part-*"))


def statuses(command: Command) -> list[str]:
    """Of the variant's runs in MLflow, those of killed processes included; a finished one is complete."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{command.output}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.kind = 'variant'")
    for run in runs:
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert run.info.status in ("FINISHED", "KILLED")
        if run.info.status == "FINISHED":
            assert {"manifest.json", "README.md"} <= names
            assert "total_mb" in " ".join(run.data.metrics)
    return [run.info.status for run in runs]


# at every step


@pytest.mark.parametrize("step", BUNDLE_STEPS, ids=named)
def test_a_kill_while_a_bundle_is_written(
    cached_command: Command, capsys: pytest.CaptureFixture[str], step: tuple[str, str, int]
) -> None:
    kill_at(cached_command, step, "tracking=none")
    assert len(cached_command.bundles()) <= 1
    text = finish(cached_command, capsys, "tracking=none")
    assert "nodes were cached" in text


@pytest.mark.parametrize("step", REPLACE_STEPS, ids=named)
def test_a_kill_while_a_bundle_is_replaced(
    cached_command: Command, capsys: pytest.CaptureFixture[str], step: tuple[str, str, int]
) -> None:
    finish(cached_command, capsys, "tracking=none")
    [bundle] = cached_command.bundles()
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"license": "MIT"', '"license": "other"'))
    kill_at(cached_command, step, "tracking=none")
    assert json.loads((cached_command.bundles()[0] / "manifest.json").read_text())["recipe"] == "tiny"
    finish(cached_command, capsys, "tracking=none")
    assert '"other"' not in manifest.read_text()


@pytest.mark.parametrize("step", TRACKING_STEPS, ids=named)
def test_a_kill_while_a_run_is_recorded(
    tracked_command: Command, capsys: pytest.CaptureFixture[str], step: tuple[str, str, int]
) -> None:
    kill_at(tracked_command, step)
    assert len(tracked_command.bundles()) == 1
    finish(tracked_command, capsys)
    assert statuses(tracked_command).count("FINISHED") == 1


def test_a_kill_while_the_database_is_made(
    cached_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(cached_command, ("mlflow:MlflowClient.search_experiments", "after", 1))
    finish(cached_command, capsys)
    assert statuses(cached_command) == ["FINISHED"]
    finish(cached_command, capsys)
    assert statuses(cached_command) == ["FINISHED"]


# at any moment


def kill_after(command: Command, seconds: float, *words: str) -> bool:
    """Kill the command and what it started after some seconds; whether it was still running."""
    process = command.start(*words)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False


def test_kills_at_random_moments(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(11)
    for _ in range(3):
        kill_after(command, moments.uniform(0.3, 4.0))
    finish(command, capsys)
    assert statuses(command).count("FINISHED") == 1


def test_no_child_goes_on_after_its_parent_was_killed(command: Command) -> None:
    process = command.start()
    end = time.monotonic() + 60
    while time.monotonic() < end and not (children := _children(process.pid)):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(_is_running(pid) for pid in children):
        time.sleep(0.05)
    assert children
    assert not [pid for pid in children if _is_running(pid)]


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.nightly
def test_ten_kills_of_the_default_run(tmp_path: Path, own_home: Path) -> None:
    environment = Command(tmp_path, own_home, tmp_path).environment()
    words = [sys.executable, "-m", "pocket_opt", f"output_dir={tmp_path}/outputs"]
    moments = random.Random(3)
    for _ in range(10):
        process = subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(1, 40))
        process.kill()
        process.wait()
    subprocess.run(words, env=environment, check=True, timeout=1200)
    validate = [sys.executable, "-m", "pocket_opt", "validate", f"{tmp_path}/outputs"]
    subprocess.run(validate, env=environment, check=True, timeout=600)
