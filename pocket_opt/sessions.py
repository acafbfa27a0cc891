"""One command's variants: run each, record it in MLflow, keep failures apart, end with table, report and exit code.

A variant's failure is data here, not an exception: it is written down, tracked as FAILED, and the others go on. What
became of each variant lies in the session's directory, so that launchers may run variants in other processes.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pocket_opt import tracking
from pocket_opt.bundle.layout import Bundle, open_bundle
from pocket_opt.bundle.publication import find_bundles
from pocket_opt.config.schema import Config
from pocket_opt.disk import storage_error
from pocket_opt.engine import NodeFailed, Observer
from pocket_opt.errors import PocketOptError
from pocket_opt.home import write_atomically
from pocket_opt.identity import digest
from pocket_opt.planner import Plan
from pocket_opt.report.html import write_report
from pocket_opt.results import FailureRecord
from pocket_opt.scratch import remove_tree
from pocket_opt.variants import run_variant

SESSIONS = ".sessions"
BEGINNING = "session.json"


@dataclass(frozen=True)
class Variant:
    """What became of one variant: a bundle, or the error that ended it."""

    bundle: Path | None
    error: str
    warnings: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether there is a bundle."""
        return self.bundle is not None


@dataclass(frozen=True)
class Finished:
    """A session at its end: manifests of its bundles, failures, where things were written, and warnings."""

    manifests: tuple[Any, ...]
    failures: tuple[FailureRecord, ...]
    places: dict[str, Path | str]
    warnings: tuple[str, ...]


class Session:
    """The variants of one command. `directory` holds what became of each."""

    def __init__(self, directory: Path, output_dir: Path, sweep: str, recipes: Sequence[str]) -> None:
        self.directory = directory
        self._output_dir, self._sweep, self._recipes = output_dir, sweep, tuple(recipes)

    @staticmethod
    def begin(plans: Sequence[Plan], *, sweep: bool) -> Session:
        """Start a session for `plans`; a sweep is known by its rows, so that a repeated one is the same."""
        output_dir = Path(plans[0].config.output_dir).expanduser().absolute()
        directory = output_dir / SESSIONS / uuid4().hex
        key = digest("sweep", sorted(plan.row_key for plan in plans)) if sweep else ""
        recipes = sorted({plan.config.recipe.name for plan in plans})
        table = {"output_dir": str(output_dir), "sweep": key, "recipes": recipes}
        try:
            directory.mkdir(parents=True)
            write_atomically(directory / BEGINNING, json.dumps(table))
        except OSError as error:
            raise storage_error(error, output_dir) from error
        return Session.join(directory)

    @staticmethod
    def join(directory: Path) -> Session:
        """The session that another process began in `directory`."""
        table = json.loads((directory / BEGINNING).read_text())
        return Session(directory, Path(table["output_dir"]), table["sweep"], table["recipes"])

    def run(self, plan: Plan, observer: Observer | None = None) -> Variant:
        """Run, bundle and track one variant; never raises for what goes wrong in it."""
        try:
            bundle = run_variant(plan, observer)
        except PocketOptError as error:
            return self._fail(plan, str(error), node=error.node if isinstance(error, NodeFailed) else "")
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                traceback.print_exc()
            reason = f"internal error ({type(error).__name__}: {error}); HYDRA_FULL_ERROR=1 shows where"
            return self._fail(plan, reason, node="")
        self._write(plan, {"bundle": str(bundle.path)})
        return Variant(bundle.path, "", self._track(plan.config, bundle))

    def conclude(self) -> Finished:
        """Write the report over all bundles of the output directory, end the sweep in MLflow, tidy up."""
        outcomes = [
            json.loads(path.read_text())
            for path in sorted(self.directory.glob("*.json"))
            if path.name != BEGINNING
        ]
        bundles = [open_bundle(Path(table["bundle"])) for table in outcomes if "bundle" in table]
        failures = tuple(_failure(table["failure"]) for table in outcomes if "failure" in table)
        places: dict[str, Path | str] = {}
        warnings: tuple[str, ...] = ()
        if bundles or failures:
            files = write_report(_all_manifests(self._output_dir), failures, self._output_dir)
            places["report"] = files.html
            warnings = self._end_sweep([files.html, files.csv], failures)
        remove_tree(self.directory)
        return Finished(tuple(bundle.manifest for bundle in bundles), failures, places, warnings)

    def _fail(self, plan: Plan, reason: str, *, node: str) -> Variant:
        config = plan.config
        record = FailureRecord(
            config.recipe.name,
            config.target.name,
            config.level.name,
            config.level.rank,
            plan.overrides,
            plan.row_key,
            node,
            reason,
        )
        self._write(plan, {"failure": asdict(record)})
        if config.tracking.name == "none":
            return Variant(None, reason, ())
        tracked = tracking.log_failure(record, _settings(config), sweep=self._sweep)
        return Variant(None, reason, (tracked.warning,) if tracked.warning else ())

    def _write(self, plan: Plan, outcome: dict[str, Any]) -> None:
        table = {**outcome, "tracking": asdict(plan.config.tracking)}
        write_atomically(self.directory / f"{plan.config.level.rank}-{plan.row_key}.json", json.dumps(table))

    def _track(self, config: Config, bundle: Bundle) -> tuple[str, ...]:
        if config.tracking.name == "none":
            return ()
        tracked = tracking.log_bundle(bundle.path, _settings(config), sweep=self._sweep)
        return (tracked.warning,) if tracked.warning else ()

    def _end_sweep(self, files: Sequence[Path], failures: Sequence[FailureRecord]) -> tuple[str, ...]:
        tables = [json.loads(path.read_text())["tracking"] for path in self.directory.glob("*-*.json")]
        if not self._sweep or not tables or tables[0]["name"] == "none":
            return ()
        settings = tracking.settings_for(tables[0]["uri"], self._output_dir)
        tracked = tracking.log_sweep(self._sweep, self._recipes, files, settings, succeeded=not failures)
        return (tracked.warning,) if tracked.warning else ()


def optimize_plan(plan: Plan, observer: Observer | None = None) -> Bundle:
    """Run one variant to its bundle and record it in MLflow; raises what went wrong. For the Python API."""
    bundle = run_variant(plan, observer)
    if plan.config.tracking.name != "none":
        tracking.log_bundle(bundle.path, _settings(plan.config))
    return bundle


def _settings(config: Config) -> tracking.Settings:
    wanted = config.tracking
    return tracking.settings_for(wanted.uri, Path(config.output_dir), upload_models=wanted.upload_models)


def _all_manifests(output_dir: Path) -> list[Any]:
    """Of every readable bundle below the output directory; a damaged one is `validate`'s business."""
    manifests = []
    for path in find_bundles([output_dir]):
        try:
            manifests.append(open_bundle(path).manifest)
        except PocketOptError:
            continue
    return manifests


def _failure(table: dict[str, Any]) -> FailureRecord:
    return FailureRecord(**{**table, "overrides": tuple(table["overrides"])})
