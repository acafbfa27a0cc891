"""One command's variants: run each, record it in MLflow, keep failures apart, end with table, report and exit code.

A variant's failure is data here, not an exception: it is written down, tracked as FAILED, and the others go on. What
became of each variant lies in the session's directory, so that launchers may run variants in other processes. Nobody
else may read that directory, for overrides may hold a password; it is gone when the session ends.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocket_opt import tracking
from pocket_opt.bundle.layout import Bundle, open_bundle
from pocket_opt.bundle.publication import find_bundles
from pocket_opt.config.parsing import expanded
from pocket_opt.config.schema import Config
from pocket_opt.disk import storage_error, unexpected
from pocket_opt.engine import NodeFailed, Observer
from pocket_opt.errors import PocketOptError
from pocket_opt.home import read_json, write_atomically
from pocket_opt.identity import digest
from pocket_opt.planner import Plan
from pocket_opt.report.html import write_report
from pocket_opt.results import FailureRecord
from pocket_opt.scratch import own_name, remove_tree, sweep_dead
from pocket_opt.variants import destination, run_variant

SESSIONS = ".sessions"
BEGINNING = "session.json"
LOST = "the launcher returned without a result"


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


@dataclass(frozen=True)
class Session:
    """The variants of one command.

    Attributes:
        directory: holds what became of each variant, under its number.
        sweep: key of the sweep; "" without one.
        lines: the overrides of each variant, where other processes are to run them.
    """

    directory: Path
    sweep: str
    lines: tuple[tuple[str, ...], ...]

    @staticmethod
    def begin(plans: Sequence[Plan], *, sweep: bool, lines: Sequence[Sequence[str]] = ()) -> Session:
        """Start a session for `plans`; a sweep is known by its rows, so that a repeated one is the same."""
        output_dir = _output_dir(plans)
        directory = output_dir / SESSIONS / own_name("session")
        key = digest("sweep", sorted(plan.row_key for plan in plans)) if sweep else ""
        try:
            sweep_dead(directory.parent)
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700)
            write_atomically(directory / BEGINNING, json.dumps({"sweep": key, "lines": lines}))
        except OSError as error:
            raise storage_error(error, output_dir) from error
        return Session.join(directory)

    @staticmethod
    def join(directory: Path) -> Session:
        """The session that another process began in `directory`."""
        table = json.loads((directory / BEGINNING).read_text())
        return Session(directory, table["sweep"], tuple(map(tuple, table["lines"])))

    def run(self, number: int, plan: Plan, observer: Observer | None = None) -> Variant:
        """Run, bundle and track one variant; never raises for what goes wrong in it."""
        try:
            bundle = run_variant(plan, observer)
        except PocketOptError as error:
            return self._fail(number, plan, error)
        except OSError as error:
            return self._fail(number, plan, storage_error(error, destination(plan)))
        except Exception as error:
            return self._fail(number, plan, unexpected(error, destination(plan)))
        bundles = [bundle, *_fallback(plan)]
        self._write(number, {"bundle": [str(one.path) for one in bundles]})
        warned = [line for one in bundles for line in _log_bundle(plan.config, one, self.sweep)]
        return Variant(bundle.path, "", tuple(dict.fromkeys(warned)))

    def give_up(self, number: int, reason: str) -> None:
        """Note why a variant could not begin; it is counted as failed when the session ends."""
        self._write(number, {"given_up": reason})

    def has_failed(self) -> bool:
        """Whether a variant has failed so far."""
        return any("bundle" not in read_json(path) for path in self.directory.glob("[0-9]*.json"))

    def conclude(self, plans: Sequence[Plan]) -> Finished:
        """Write the report over all bundles of the output directory, end the sweep in MLflow, tidy up."""
        complaints = self._fail_lost(plans)
        outcomes = [read_json(self._outcome(number)) or {} for number in range(len(plans))]
        bundles = [open_bundle(Path(path)) for table in outcomes for path in table.get("bundle", ())]
        failures = tuple(_failure(table["failure"]) for table in outcomes if "failure" in table)
        files = write_report(_all_manifests(_output_dir(plans)), failures, _output_dir(plans))
        complaints += self._end_sweep(plans, [files.html, files.csv], failures)
        remove_tree(self.directory)
        manifests = tuple(bundle.manifest for bundle in bundles)
        return Finished(manifests, failures, {"report": files.html}, complaints)

    def _fail_lost(self, plans: Sequence[Plan]) -> tuple[str, ...]:
        """Fail every variant that has no outcome, unless an earlier failure was to end the session."""
        stopped = self.has_failed()
        complaints: tuple[str, ...] = ()
        for number, plan in enumerate(plans):
            outcome = read_json(self._outcome(number))
            if outcome is None and not (stopped and plan.config.fail_fast):
                outcome = {"given_up": LOST}
            if outcome is not None and "given_up" in outcome:
                complaints += self._fail(number, plan, PocketOptError(outcome["given_up"])).warnings
        return complaints

    def _fail(self, number: int, plan: Plan, error: PocketOptError) -> Variant:
        record = _failure_of(plan, error)
        self._write(number, {"failure": asdict(record)})
        return Variant(None, record.reason, _log_failure(plan.config, record, self.sweep))

    def _outcome(self, number: int) -> Path:
        return self.directory / f"{number}.json"

    def _write(self, number: int, outcome: dict[str, Any]) -> None:
        write_atomically(self._outcome(number), json.dumps(outcome))

    def _end_sweep(
        self, plans: Sequence[Plan], files: Sequence[Path], failures: Sequence[FailureRecord]
    ) -> tuple[str, ...]:
        config = plans[0].config
        if not self.sweep or config.tracking.name == "none":
            return ()
        recipes = sorted({plan.config.recipe.name for plan in plans})
        settings = _settings(config)
        tracked = tracking.log_sweep(self.sweep, recipes, files, settings, succeeded=not failures)
        return (tracked.warning,) if tracked.warning else ()


def optimize_plan(plan: Plan, observer: Observer | None = None) -> Bundle:
    """Run one variant to its bundle and record it in MLflow, also if it fails. For the Python API.

    Raises:
        PocketOptError: what went wrong. That MLflow cannot be had is a `UserWarning`.
    """
    try:
        bundle = run_variant(plan, observer)
    except PocketOptError as error:
        _warn(_log_failure(plan.config, _failure_of(plan, error)))
        raise
    for one in (bundle, *_fallback(plan)):
        _warn(_log_bundle(plan.config, one))
    return bundle


def _fallback(plan: Plan) -> list[Bundle]:
    """The bundle of its own that the fallback of a finished plan left, if it has one."""
    return [] if plan.fallback is None else [open_bundle(destination(plan.fallback))]


def _warn(texts: Sequence[str]) -> None:
    for text in texts:
        warnings.warn(text, stacklevel=4)


def _failure_of(plan: Plan, error: PocketOptError) -> FailureRecord:
    config = plan.config
    return FailureRecord(
        config.recipe.name,
        config.target.name,
        config.level.name,
        config.level.rank,
        plan.overrides,
        plan.row_key,
        error.node if isinstance(error, NodeFailed) else "",
        str(error),
    )


def _log_bundle(config: Config, bundle: Bundle, sweep: str = "") -> tuple[str, ...]:
    """Record a bundle where the configuration says; gives the warning if that failed."""
    if config.tracking.name == "none":
        return ()
    tracked = tracking.log_bundle(bundle.path, _settings(config), sweep=sweep)
    return (tracked.warning,) if tracked.warning else ()


def _log_failure(config: Config, failure: FailureRecord, sweep: str = "") -> tuple[str, ...]:
    if config.tracking.name == "none":
        return ()
    tracked = tracking.log_failure(failure, _settings(config), sweep=sweep)
    return (tracked.warning,) if tracked.warning else ()


def _settings(config: Config) -> tracking.Settings:
    wanted = config.tracking
    return tracking.settings_for(wanted.uri, Path(config.output_dir), upload_models=wanted.upload_models)


def _output_dir(plans: Sequence[Plan]) -> Path:
    """Where the report over all variants goes."""
    return expanded(plans[0].config.output_dir, where="output_dir").absolute()


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
