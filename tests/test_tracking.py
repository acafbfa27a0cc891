"""What MLflow holds after a command, after the same command again, after a kill at any step, and when it is broken."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
from variant_fixtures import failure, key, make

from pocket_opt import tracking, tracking_store
from pocket_opt.bundle import Bundle, write_bundle
from pocket_opt.report import flat, write_report
from pocket_opt.tracking import Settings, log_bundle, log_failure, log_sweep, settings_for

TESTS = Path(__file__).parent
SWEEP = key("sweep")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once; making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking_store.create_database(path, mlflow.MlflowClient)
    return path


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    """A store of this test's own."""
    place = tmp_path / "outputs"
    place.mkdir()
    shutil.copy(template, place / "mlflow.db")
    return settings_for(None, place)


def bundle(root: Path, level: str = "HIGH", name: str = "", **changes: Any) -> Bundle:
    made = make(root / f"store-{level}{name}-{uuid4().hex[:4]}", level, **changes)
    place = root / "outputs" / "pocket_whisper" / "cpu" / f"{level}-1"
    return write_bundle(made.variant, made.artifact, place, measurements=made.measurements)


def client(settings: Settings) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=settings.uri)


def runs(settings: Settings, condition: str = "") -> list[Any]:
    store = client(settings)
    experiment = store.get_experiment_by_name("pocket_whisper")
    return list(store.search_runs([experiment.experiment_id], condition)) if experiment else []


def models(settings: Settings) -> list[str]:
    """The states of the logged models."""
    store = client(settings)
    experiment = store.get_experiment_by_name("pocket_whisper")
    return [str(model.status) for model in store.search_logged_models([experiment.experiment_id])]


def statuses(settings: Settings, kind: str = "variant") -> list[str]:
    return sorted(run.info.status for run in runs(settings, f"tags.kind = '{kind}'"))


def test_a_variant_becomes_one_run_with_everything(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    tracked = log_bundle(made.path, settings)
    assert not tracked.warning
    assert tracked.message == f"recorded in MLflow, run {tracked.run_id[:8]}"
    [run] = runs(settings)
    assert (run.info.run_id, run.info.status, run.info.run_name) == (tracked.run_id, "FINISHED", "HIGH cpu")
    assert run.data.params["level"] == "HIGH"
    assert run.data.params["passes"].endswith("quantize_pass(bits=8, block=32)")
    assert run.data.metrics["quality/wer"] == 3.71
    assert run.data.metrics["level_rank"] == 3
    assert run.data.metrics["size/total_mb"] == made.manifest["metrics"]["size"]["total_mb"]["value"]
    assert run.data.tags["row_key"] == made.manifest["identities"]["row"]
    assert run.data.tags["budget"] == "within"
    assert "| Word error rate | 3.71 % |" in run.data.tags["mlflow.note.content"]
    assert "hunter2" not in json.dumps([run.data.params, run.data.tags])
    store = client(settings)
    history = store.get_metric_history(run.info.run_id, "pass/size_mb")
    assert [(value.step, value.value) for value in history] == [(0, 0.4), (1, 0.404), (2, 0.112)]
    names = {item.path for item in store.list_artifacts(run.info.run_id)}
    assert names == {"manifest.json", "README.md", "plan.txt", "measurements", "plots"}
    assert (
        tmp_path / "outputs/mlartifacts/pocket_whisper" / run.info.run_id / "artifacts/manifest.json"
    ).is_file()


def test_the_model_is_found_by_its_metric(settings: Settings, tmp_path: Path) -> None:
    for level in ("HIGH", "EXTREME"):
        assert not log_bundle(bundle(tmp_path, level).path, settings).warning
    store = client(settings)
    experiments = [store.get_experiment_by_name("pocket_whisper").experiment_id]
    found = store.search_logged_models(experiments, "metrics.`quality/wer` < 4")
    assert [(model.name, model.status) for model in found] == [("pocket_whisper-cpu-HIGH", "READY")]


def test_all_variants_have_the_same_parameters(settings: Settings, tmp_path: Path) -> None:
    log_bundle(bundle(tmp_path, "NONE").path, settings)
    log_bundle(bundle(tmp_path, "HIGH").path, settings)
    first, second = runs(settings)
    assert set(first.data.params) == set(second.data.params)


def test_a_failed_variant_has_the_parameters_of_a_finished_one(settings: Settings, tmp_path: Path) -> None:
    log_bundle(bundle(tmp_path).path, settings)
    failed = replace(failure(), overrides=("decoder=basic",))
    log_failure(failed, settings)
    finished, failed_run = sorted(runs(settings), key=lambda run: run.info.status, reverse=True)
    assert set(failed_run.data.params) == set(finished.data.params)
    assert (failed_run.data.params["overrides"], failed_run.data.params["decoder"]) == ("decoder=basic", "")


def test_a_long_chain_of_passes_is_not_cut(tmp_path: Path) -> None:
    table = bundle(tmp_path).manifest
    node = {**table["nodes"][1], "params": {"nodes": ["encoder.layers.0.self_attn.q_proj"] * 30}}
    passes = flat.params({**table, "nodes": [*table["nodes"], node]})["passes"]
    assert len(passes) > 900
    assert passes.endswith(")")


def conditions(made: Bundle, *names: str) -> None:
    """Give a bundle error rates by these conditions."""
    table = json.loads((made.path / "manifest.json").read_text())
    quality = table["metrics"]["quality"]
    quality |= {f"wer_{name}": {**quality["wer"], "value": float(n)} for n, name in enumerate(names)}
    (made.path / "manifest.json").write_text(json.dumps(table))


def test_a_condition_may_have_any_name(settings: Settings, tmp_path: Path) -> None:
    made, names = bundle(tmp_path), ("street (5 dB)", "street [5 dB]", "a//b/", "x" * 300, "straße 5 dB")
    conditions(made, *names)
    assert not log_bundle(made.path, settings).warning
    [run] = runs(settings)
    found = {name: value for name, value in run.data.metrics.items() if name.startswith("quality/wer_")}
    assert set(range(len(names))) <= set(found.values())
    assert found["quality/wer_straße 5 dB"] == 4
    assert any(name.startswith("quality/wer_street _5 dB_") for name in found)


def test_the_same_again_makes_no_second_run_and_imports_nothing(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, settings)
    script = f"""
        import sys
        from pathlib import Path
        from pocket_opt.tracking import Settings, log_bundle
        tracked = log_bundle(Path({str(made.path)!r}), Settings({settings.uri!r}))
        print(tracked.run_id, tracked.message, "mlflow" in sys.modules)
    """
    done = python(script)
    assert done.stdout.split() == [
        first.run_id,
        *f"recorded in MLflow before, run {first.run_id[:8]}".split(),
        "False",
    ]
    next(made.path.parent.glob(".*.tracking.json")).unlink()
    assert log_bundle(made.path / "manifest.json", settings).run_id == first.run_id
    assert statuses(settings) == ["FINISHED"]


def test_a_store_that_was_replaced_is_filled_again(
    settings: Settings, template: Path, tmp_path: Path
) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, settings)
    assert settings.database is not None
    other = replace(settings, uri=f"sqlite:///{tmp_path / 'other.db'}")
    shutil.copy(template, tmp_path / "other.db")
    second = log_bundle(made.path, other)
    assert second.run_id != first.run_id
    assert statuses(other) == statuses(settings) == ["FINISHED"]


def test_a_run_that_was_deleted_is_recorded_again(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, settings)
    client(settings).delete_run(first.run_id)
    assert log_bundle(made.path, settings).run_id != first.run_id
    assert statuses(settings) == ["FINISHED"]


def test_a_refresh_records_what_is_known_once_more(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, settings)
    kept = tmp_path / "outputs/mlartifacts/pocket_whisper" / first.run_id / "artifacts/manifest.json"
    kept.unlink()
    assert log_bundle(made.path, settings).message.startswith("recorded in MLflow before")
    assert not kept.exists()
    refreshed = log_bundle(made.path, settings, refresh=True)
    assert refreshed == replace(first, message=f"brought up to date in MLflow, run {first.run_id[:8]}")
    assert kept.is_file()


def test_a_run_of_an_older_version_keeps_its_parameters(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(flat, "LONGEST", 20)
        log_bundle(made.path, settings)
    assert not log_bundle(made.path, settings, refresh=True).warning
    assert statuses(settings) == ["FINISHED"]


def test_other_numbers_of_the_same_variant_bring_its_run_up_to_date(
    settings: Settings, tmp_path: Path
) -> None:
    first = log_bundle(bundle(tmp_path).path, settings)
    second = log_bundle(bundle(tmp_path, budget={"wer_delta": 0.1}).path, settings)
    assert second.message == f"brought up to date in MLflow, run {first.run_id[:8]}"
    [run] = runs(settings)
    assert run.info.status == "FINISHED"
    assert run.data.tags["budget"] == "over_budget"
    assert run.data.metrics["budget/within"] == 0


def test_a_sweep_is_the_parent_of_its_variants_and_gets_the_report(
    settings: Settings, tmp_path: Path
) -> None:
    made = [bundle(tmp_path, level) for level in ("NONE", "HIGH")]
    for one in made:
        log_bundle(one.path, settings, sweep=SWEEP)
    log_failure(failure(), settings, sweep=SWEEP)
    assert statuses(settings, "sweep") == ["RUNNING"]
    report = write_report([one.manifest for one in made], [failure()], tmp_path / "outputs")
    files = [report.html, report.csv]
    ended = log_sweep(SWEEP, ["pocket_whisper"], files, settings, succeeded=False)
    [parent] = runs(settings, "tags.kind = 'sweep'")
    assert (parent.info.run_id, parent.info.status) == (ended.run_id, "FAILED")
    children = runs(settings, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED", "FINISHED"]
    assert {item.path for item in client(settings).list_artifacts(ended.run_id)} == {
        "report.html",
        "report.csv",
    }
    assert "before" in log_sweep(SWEEP, ["pocket_whisper"], files, settings, succeeded=False).message
    log_bundle(made[0].path, settings, sweep=SWEEP)
    assert statuses(settings, "sweep") == ["FAILED"]


def test_a_variant_of_a_former_command_joins_a_sweep(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, settings)
    joined = log_bundle(made.path, settings, sweep=SWEEP)
    assert joined == replace(first, message=f"recorded in MLflow before, run {first.run_id[:8]}")
    [parent] = runs(settings, "tags.kind = 'sweep'")
    [child] = runs(settings, "tags.kind = 'variant'")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_failed_variant_is_one_failed_run_with_its_reason(settings: Settings) -> None:
    first, second = (log_failure(failure(), settings) for _ in range(2))
    assert first.run_id == second.run_id
    [run] = runs(settings)
    assert run.info.status == "FAILED"
    assert "failed: no constant weight" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["failed_node"] == "quantize"


def test_a_failure_that_is_refused_is_no_second_run_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise mlflow.MlflowException("no")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_batch", refuse)
        assert log_failure(failure(), settings).warning
    assert not log_failure(failure(), settings).warning
    assert statuses(settings) == ["FAILED"]


def test_models_are_uploaded_only_when_asked_for(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    tracked = log_bundle(made.path, replace(settings, upload_models=True))
    store = client(settings)
    assert "bundle" not in {item.path for item in store.list_artifacts(tracked.run_id)}
    experiment = store.get_experiment_by_name("pocket_whisper").experiment_id
    [model] = store.search_logged_models([experiment])
    assert model.tags["mlflow.model.isExternal"] == "false"
    names = {item.path for item in store.list_logged_model_artifacts(model.model_id, "artifacts/HIGH-1")}
    assert {
        "artifacts/HIGH-1/encoder.onnx",
        "artifacts/HIGH-1/run.py",
        "artifacts/HIGH-1/manifest.json",
    } <= names


def test_an_old_server_gets_the_files_themselves(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise mlflow.MlflowException("no such endpoint")

    monkeypatch.setattr(mlflow.MlflowClient, "create_logged_model", refuse)
    tracked = log_bundle(bundle(tmp_path).path, replace(settings, upload_models=True))
    names = {item.path for item in client(settings).list_artifacts(tracked.run_id, "bundle")}
    assert {"bundle/encoder.onnx", "bundle/run.py"} <= names


STEPS = (
    "create_experiment",
    "create_run",
    "create_logged_model",
    "log_artifacts",
    "log_batch",
    "finalize_logged_model",
    "set_terminated",
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test catches it or cleans up in MLflow."""


@pytest.mark.parametrize(
    ("moment", "step"),
    [*(("before", step) for step in STEPS), ("after", "create_logged_model"), ("after", STEPS[-1])],
)
def test_after_a_kill_at_any_step_the_same_command_ends_with_one_run(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, step: str
) -> None:
    made = bundle(tmp_path)
    original = getattr(mlflow.MlflowClient, step)

    def kill(*args: Any, **kwargs: Any) -> None:
        if moment == "after":
            original(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, kill)
        with pytest.raises(Killed):
            log_bundle(made.path, settings)
    monkeypatch.setattr(tracking, "is_running", lambda process: False)
    assert not log_bundle(made.path, settings).warning
    assert statuses(settings) == ["FINISHED"]
    assert models(settings) == ["READY"]


def test_after_a_real_kill_the_run_goes_on(settings: Settings, tmp_path: Path) -> None:
    made = bundle(tmp_path)
    script = f"""
        import os, signal
        from pathlib import Path
        import mlflow
        from pocket_opt.tracking import Settings, log_bundle
        mlflow.MlflowClient.log_artifacts = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        log_bundle(Path({str(made.path)!r}), Settings({settings.uri!r}), sweep="{SWEEP}")
    """
    assert python(script).returncode == -signal.SIGKILL
    assert statuses(settings) == statuses(settings, "sweep") == ["RUNNING"]
    log_bundle(made.path, settings, sweep=SWEEP)
    assert statuses(settings) == ["FINISHED"]
    assert statuses(settings, "sweep") == ["RUNNING"]


@pytest.mark.parametrize("step", STEPS[3:])
def test_a_store_that_refuses_gets_no_half_made_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = bundle(tmp_path)
    original = getattr(mlflow.MlflowClient, step)

    def refuse(*args: Any, **kwargs: Any) -> None:
        if args[1:] and args[-1] == "KILLED":
            return original(*args, **kwargs)
        raise mlflow.MlflowException("no")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, refuse)
        for _ in range(2):
            assert ": no." in log_bundle(made.path, settings).warning
            assert statuses(settings) == ["KILLED"]
            assert models(settings) == []
    assert not log_bundle(made.path, settings, sweep=SWEEP).warning
    assert statuses(settings) == ["FINISHED"]
    assert models(settings) == ["READY"]


def test_a_store_is_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: Path
) -> None:
    made, fresh = bundle(tmp_path), settings_for(None, tmp_path / "outputs")
    leftover = tmp_path / "outputs/.mlflow.db.part-1"
    leftover.write_text("half a migration")

    def quickly(tracking_uri: str) -> Any:
        shutil.copy(template, tracking_uri.removeprefix("sqlite:///"))
        return mlflow.MlflowClient(tracking_uri=tracking_uri)

    assert fresh.database is not None
    tracking_store.create_database(fresh.database, quickly)
    assert not leftover.exists()
    assert not log_bundle(made.path, fresh).warning
    assert statuses(fresh) == ["FINISHED"]


def broken(settings: Settings, tmp_path: Path) -> str:
    """The warning that a broken place gives; it comes quickly, and the bundle stays."""
    made = bundle(tmp_path)
    start = time.monotonic()
    tracked = log_bundle(made.path, settings)
    assert time.monotonic() - start < 8
    assert tracked.run_id == tracked.message == ""
    assert (made.path / "manifest.json").is_file()
    assert f"pocket-opt report {made.path} --log-to-mlflow --tracking-uri " in tracked.warning
    assert "\n" not in tracked.warning
    failed = log_failure(failure(), settings)
    ended = log_sweep(SWEEP, ["pocket_whisper"], [made.path / "README.md"], settings, succeeded=True)
    assert failed.warning
    assert ended.warning
    return tracked.warning


def test_a_server_that_is_gone_is_a_warning(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    warning = broken(Settings(f"http://anna:hunter2@127.0.0.1:{port}"), tmp_path)
    assert f"http://127.0.0.1:{port}" in warning
    assert "hunter2" not in warning
    assert "refused" in warning


def test_a_server_that_never_answers_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_store, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in broken(Settings(f"http://127.0.0.1:{silent.getsockname()[1]}"), tmp_path)


def test_a_damaged_database_is_a_warning(settings: Settings, tmp_path: Path) -> None:
    assert settings.database is not None
    settings.database.write_bytes(b"no database at all" * 100)
    assert "file is not a database" in broken(settings, tmp_path)


def test_a_locked_database_is_a_warning(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_store, "TIMEOUT_S", 0.2)
    assert settings.database is not None
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in broken(settings, tmp_path)
    assert not log_bundle(tmp_path / "outputs/pocket_whisper/cpu/HIGH-1", settings).warning


def test_a_place_that_cannot_be_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not recorded in MLflow" in broken(
        settings_for(f"sqlite:///{tmp_path}/file/mlflow.db", tmp_path), tmp_path
    )
    assert "not recorded in MLflow" in broken(Settings("gopher://nowhere"), tmp_path)


def test_a_full_disk_is_a_warning(small_disk: Path, tmp_path: Path) -> None:
    full = settings_for(None, small_disk)
    assert not log_bundle(bundle(tmp_path).path, full).run_id


def test_a_directory_that_is_no_bundle_is_a_warning(settings: Settings, tmp_path: Path) -> None:
    assert "is no bundle" in log_bundle(tmp_path, settings).warning


def test_where_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_for(None, Path("outputs")).uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert settings_for("sqlite:///own.db", Path("outputs")).uri == f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert settings_for(None, Path("outputs")) == Settings("https://mlflow.example.org")
    assert settings_for("http://other:5000", Path("x"), upload_models=True) == Settings(
        "http://other:5000", True
    )


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    mine = tracking_store.process_tags()["process"]
    assert tracking_store.is_running(mine)
    assert not tracking_store.is_running(f"{os.getpid()}:1")
    assert not tracking_store.is_running("999999999:1")
    assert not tracking_store.is_running("")


@pytest.mark.nightly
def test_over_a_server_the_marker_is_checked_with_it(tmp_path: Path, server: Settings) -> None:
    made = bundle(tmp_path)
    first = log_bundle(made.path, server)
    assert not first.warning
    assert log_bundle(made.path, server) == replace(
        first, message=f"recorded in MLflow before, run {first.run_id[:8]}"
    )
    client(server).delete_run(first.run_id)
    assert log_bundle(made.path, server).run_id != first.run_id
    assert statuses(server) == ["FINISHED"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Settings]:
    """An MLflow server of this test's own."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    place = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *place,
    ]
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                tracking_store.check(Settings(f"http://127.0.0.1:{port}"))
                break
            time.sleep(0.5)
        yield Settings(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def python(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
