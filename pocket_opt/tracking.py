"""Runs in MLflow, from manifests: one for each variant, under one for each sweep. Nothing else imports mlflow.

Tracking never stops work: what fails here becomes one warning, the bundle stays, and `log_bundle` can be repeated. A
variant's run is found by its identity tags, so a repeated command never makes a second one, also after `kill -9`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pocket_opt.bundle.manifest import read_manifest, without_times
from pocket_opt.bundle.publication import MANIFEST, TRACKED
from pocket_opt.bundle.scrub import without_password
from pocket_opt.home import home
from pocket_opt.identity import digest, file_digest
from pocket_opt.report import flat
from pocket_opt.report.attachments import attachments
from pocket_opt.results import FailureRecord
from pocket_opt.tracking_model import EXTERNAL, upload_model
from pocket_opt.tracking_store import (
    Marker,
    Settings,
    check,
    create_database,
    is_running,
    process_tags,
    set_environment,
    settings_for,
)

__all__ = ["Settings", "Tracked", "log_bundle", "log_failure", "log_sweep", "settings_for"]

LOCK_TIMEOUT_S = 120


@dataclass(frozen=True)
class Tracked:
    """What became of one request: `message` says what was done, or `warning` why it could not be."""

    message: str = ""
    warning: str = ""
    run_id: str = ""


def log_bundle(bundle: Path, settings: Settings, *, sweep: str = "", refresh: bool = False) -> Tracked:
    """Record the bundle in the directory `bundle` (or whose manifest file that is); nothing if it is recorded already.

    Args:
        sweep: key of the sweep that the variant belongs to; its run becomes the parent.
        refresh: write everything into its run once more if it is recorded already.
    """
    directory = bundle.parent if bundle.name == MANIFEST else bundle

    def work() -> Tracked:
        manifest = read_manifest(directory)
        marker = Marker(directory.with_name(f".{directory.name}.tracking.json"), settings)
        content = digest("tracked", [without_times(manifest), settings.upload_models])
        if not refresh and (run_id := marker.known(content + sweep)):
            return Tracked(f"recorded in MLflow before, run {run_id[:8]}", run_id=run_id)
        with _opened(settings) as client:
            run_id, message = _Recorder(client, settings, manifest["recipe"]).record(
                manifest, directory, content, sweep, refresh=refresh
            )
        marker.write(content + sweep, run_id)
        return Tracked(message, run_id=run_id)

    again = f"pocket-opt report {directory} --log-to-mlflow --tracking-uri {settings.uri}"
    return _guarded(work, settings, again)


def log_failure(failure: FailureRecord, settings: Settings, *, sweep: str = "") -> Tracked:
    """Record a variant that failed as a FAILED run with its error as the note; again and again as the same run."""

    def work() -> Tracked:
        with _opened(settings) as client:
            run_id = _Recorder(client, settings, failure.recipe).record_failure(failure, sweep)
        return Tracked(f"recorded in MLflow as failed, run {run_id[:8]}", run_id=run_id)

    return _guarded(work, settings, "the same command")


def log_sweep(
    sweep: str, experiments: Sequence[str], files: Sequence[Path], settings: Settings, *, succeeded: bool
) -> Tracked:
    """End a sweep: attach the report to its parent run in each experiment (named after the recipe), and finish it."""

    def work() -> Tracked:
        marker = Marker(files[0].with_name(f".sweep-{sweep[:12]}.tracking.json"), settings)
        content = digest(
            "tracked-sweep", [sweep, sorted(experiments), [file_digest(path) for path in files], succeeded]
        )
        if run_id := marker.known(content):
            return Tracked(f"recorded in MLflow before, run {run_id[:8]}", run_id=run_id)
        with _opened(settings) as client:
            for experiment in sorted(set(experiments)):
                run_id = _Recorder(client, settings, experiment).end_sweep(sweep, files, succeeded=succeeded)
        marker.write(content, run_id)
        return Tracked(f"sweep recorded in MLflow, run {run_id[:8]}", run_id=run_id)

    return _guarded(work, settings, "the same command")


class _Recorder:
    """The runs of one experiment (named after its recipe)."""

    def __init__(self, client: Any, settings: Settings, experiment: str) -> None:
        self._client, self._settings = client, settings
        self._experiment = self._ensure_experiment(experiment)
        self._bury()

    def record(
        self, manifest: Mapping[str, Any], directory: Path, content: str, sweep: str, *, refresh: bool
    ) -> tuple[str, str]:
        """The id of the variant's finished run, and what was done: nothing, brought up to date, or newly made."""
        parent = self._parent(sweep)
        identity = {**flat.identity(manifest), "kind": "variant"}
        found = self._find(identity, "FINISHED")
        if found and not refresh and found.data.tags.get("content") == content:
            self._client.log_batch(found.info.run_id, tags=_tags(parent))
            return found.info.run_id, f"recorded in MLflow before, run {found.info.run_id[:8]}"
        tags = {**parent, "content": content}
        if found:
            self._fill(found, manifest, directory, tags)
            return found.info.run_id, f"brought up to date in MLflow, run {found.info.run_id[:8]}"
        run = self._begin(flat.run_name(manifest), identity, parent)
        try:
            self._fill(run, manifest, directory, tags)
            self._client.set_terminated(run.info.run_id, "FINISHED")
        except Exception:
            with suppress(Exception):
                self._discard(run.info.run_id)
            raise
        return run.info.run_id, f"recorded in MLflow, run {run.info.run_id[:8]}"

    def record_failure(self, failure: FailureRecord, sweep: str) -> str:
        """The id of the variant's failed run."""
        identity = {"row_key": failure.row_key, "kind": "variant"}
        note = f"**failed**\n\n```\n{failure.reason}\n```\n"
        tags = {**self._parent(sweep), "failed_node": failure.node, "mlflow.note.content": note}
        run = self._find(identity, "FAILED") or self._create(flat.run_name(failure), identity)
        self._client.set_terminated(run.info.run_id, "FAILED")
        params = _params(flat.failure_params(failure), run)
        self._client.log_batch(run.info.run_id, params=params, tags=_tags(tags))
        return str(run.info.run_id)

    def end_sweep(self, sweep: str, files: Sequence[Path], *, succeeded: bool) -> str:
        """The id of the sweep's run, now finished and with the report."""
        run_id = self._parent(sweep)["mlflow.parentRunId"]
        for path in files:
            self._client.log_artifact(run_id, str(path))
        self._client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")
        return run_id

    def _ensure_experiment(self, name: str) -> str:
        """Its id; made with an explicit place for artifacts, which else would depend on the working directory."""
        database = self._settings.database
        location = (database.parent / TRACKED / name).as_uri() if database else None
        found = self._client.get_experiment_by_name(name)
        made = (
            found.experiment_id if found else self._client.create_experiment(name, artifact_location=location)
        )
        return str(made)

    def _bury(self) -> None:
        """Mark RUNNING runs of this host whose process is gone as KILLED, and take their half-made models away."""
        condition = f"attributes.status = 'RUNNING' and tags.host = '{platform.node()}'"
        for run in self._client.search_runs([self._experiment], filter_string=condition):
            if not is_running(run.data.tags.get("process", "")):
                self._discard(run.info.run_id)

    def _discard(self, run_id: str) -> None:
        """End a run that will not be finished now; `_begin` goes on with it."""
        for model in self._models(run_id):
            self._client.delete_logged_model(model.model_id)
        self._client.set_terminated(run_id, "KILLED")

    def _parent(self, sweep: str) -> dict[str, str]:
        """The tag that makes a run a child of the sweep's run, which is begun; nothing without a sweep."""
        if not sweep:
            return {}
        tags = {"sweep_key": sweep, "kind": "sweep"}
        found = self._find(tags)
        if found is None or found.info.status == "KILLED":
            found = self._begin(f"sweep {sweep[:8]}", tags, {})
        return {"mlflow.parentRunId": found.info.run_id}

    def _begin(self, name: str, identity: Mapping[str, str], tags: Mapping[str, str]) -> Any:
        """A run that this process fills: the one with this identity that was KILLED goes on, else a new one."""
        found = self._find(identity, "KILLED")
        if found is None:
            return self._create(name, {**identity, **tags})
        self._client.log_batch(found.info.run_id, tags=_tags({**process_tags(), **tags}))
        self._client.update_run(found.info.run_id, status="RUNNING")
        return found

    def _create(self, name: str, tags: Mapping[str, str]) -> Any:
        """A new run, found by `tags`, that names this process as the one that fills it."""
        return self._client.create_run(self._experiment, tags={**tags, **process_tags()}, run_name=name)

    def _find(self, tags: Mapping[str, str], status: str = "") -> Any:
        """The newest run with these tags, or None."""
        conditions = [f"tags.{name} = '{value}'" for name, value in tags.items()]
        conditions += [f"attributes.status = '{status}'"] if status else []
        found = self._client.search_runs([self._experiment], " and ".join(conditions), max_results=1)
        return found[0] if found else None

    def _fill(self, run: Any, manifest: Mapping[str, Any], place: Path, tags: Mapping[str, str]) -> None:
        """Everything of a variant: one batch of values, and the files."""
        from mlflow.entities import Metric

        run_id = run.info.run_id
        model_id = self._model(run_id, manifest)
        now = int(time.time() * 1000)
        values = [
            Metric(key, value, now, 0, model_id=model_id) for key, value in flat.metrics(manifest).items()
        ]
        values += [Metric(name, value, now, step) for name, value, step in flat.steps(manifest)]
        with attachments(manifest, place) as folder:
            self._client.log_artifacts(run_id, str(folder))
        if self._settings.upload_models:
            if model_id is None:  # an old server gets the plain files
                self._client.log_artifacts(run_id, str(place), "bundle")
            else:
                upload_model(self._client, model_id, place, manifest)
        everything = {**flat.tags(manifest), "bundle": str(place), **tags}
        self._client.log_batch(run_id, values, _params(flat.params(manifest), run), _tags(everything))
        if model_id is not None:
            self._client.finalize_logged_model(model_id, "READY")

    def _model(self, run_id: str, manifest: Mapping[str, Any]) -> str | None:
        """A logged model with its files outside of MLflow, to be found by metrics; None where a server is too old."""
        for model in self._models(run_id):
            return str(model.model_id)
        name = f"{manifest['recipe']}-{manifest['target']}-{manifest['level']}"
        try:
            made = self._client.create_logged_model(
                self._experiment,
                name,
                source_run_id=run_id,
                tags={EXTERNAL: "true", **flat.identity(manifest)},
                params=flat.params(manifest),
                model_type=manifest["metadata"].get("family"),
            )
        except Exception:
            return None
        return str(made.model_id)

    def _models(self, run_id: str) -> list[Any]:
        try:
            return list(self._client.search_logged_models([self._experiment], f"source_run_id = '{run_id}'"))
        except Exception:
            return []


def _guarded(work: Callable[[], Tracked], settings: Settings, again: str) -> Tracked:
    try:
        return work()
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        what = f"not recorded in MLflow at {settings.database or settings.uri}: {reason}"
        return Tracked(warning=without_password(f"{what}. Nothing else is lost; repeat: {again}"))


@contextmanager
def _opened(settings: Settings) -> Iterator[Any]:
    """A client, alone on this machine, of a store that answers."""
    set_environment()
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"tracking-{settings.identity[:16]}.lock", timeout=LOCK_TIMEOUT_S):
        check(settings)
        from mlflow import MlflowClient

        if settings.database is not None and not settings.database.exists():
            create_database(settings.database, MlflowClient)
        yield MlflowClient(tracking_uri=settings.uri)


def _tags(table: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in table.items() if value]


def _params(table: Mapping[str, str], run: Any) -> list[Any]:
    """Those that `run` lacks: MLflow refuses to change one, which an older version may have written otherwise."""
    from mlflow.entities import Param

    return [Param(name, value) for name, value in table.items() if name not in run.data.params]
