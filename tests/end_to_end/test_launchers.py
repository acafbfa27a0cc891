"""Launchers of Hydra: the same bundles as without, nothing lost in silence, and nothing of Hydra's left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_command import Command

from pocket_opt.cli import optimize
from pocket_opt.cli.planned import plan_all
from pocket_opt.sessions import LOST, SESSIONS, Session

LOSING = """\
from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher


class LosingLauncher(Launcher):
    def setup(self, *, hydra_context, task_function, config):
        pass

    def launch(self, job_overrides, initial_job_idx):
        {what}


node = {{"_target_": "hydra_plugins.losing.LosingLauncher"}}
ConfigStore.instance().store(group="hydra/launcher", name="losing", node=node, provider="test")
"""


def run(command: Command, *words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command with a place of plugins."""
    environment = command.environment()
    if site:
        environment["PYTHONPATH"] += os.pathsep + str(site)
    return subprocess.run(
        [sys.executable, "-m", "pocket_opt", *command.arguments(*words)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def check_nothing_is_left(command: Command) -> None:
    assert list((command.output / SESSIONS).iterdir()) == []
    assert not list(command.output.rglob("multirun.yaml"))


def losing(tmp_path: Path, what: str) -> Path:
    """A place with a plugin whose jobs never run."""
    (tmp_path / "site" / "hydra_plugins").mkdir(parents=True)
    (tmp_path / "site" / "hydra_plugins" / "losing.py").write_text(LOSING.format(what=what))
    return tmp_path / "site"


def test_joblib_makes_the_same_bundles(cached_command: Command) -> None:
    plain = run(cached_command, "tracking=none")
    before = cached_command.bundles()
    launched = run(cached_command, "-m", "hydra/launcher=joblib", "tracking=none")
    assert launched.returncode == 0, launched.stderr
    assert "all 4 nodes were cached" in launched.stdout
    assert plain.stdout.split("verified")[1] == launched.stdout.split("verified")[1]
    assert cached_command.bundles() == before
    check_nothing_is_left(cached_command)


def test_the_first_failure_ends_a_sweep_also_with_a_launcher(
    command: Command, speech: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(speech / "model", tmp_path / "broken"))
    os.truncate(broken / "model.safetensors", 300_000)
    models = f"recipe.model.path={broken},{speech / 'model'}"
    one_by_one = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    done = run(command, "-m", models, *one_by_one, "tracking=none", "fail_fast=true")
    assert done.returncode == 1
    assert done.stdout.count("failed: tiny") == 1
    assert LOST not in done.stdout
    assert command.bundles() == []
    check_nothing_is_left(command)


@pytest.mark.parametrize("what", ["return []", "raise RuntimeError('no queue')"])
def test_what_a_launcher_loses_has_failed(command: Command, tmp_path: Path, what: str) -> None:
    done = run(
        command,
        "-m",
        "level=NONE,BASIC",
        "hydra/launcher=losing",
        "tracking=none",
        site=losing(tmp_path, what),
    )
    assert done.returncode == 1
    assert done.stdout.count("failed: tiny · cpu") == 2
    assert done.stdout.count(LOST) == 2
    assert ("no queue" in done.stderr) == ("queue" in what)
    assert (command.output / "report.csv").read_text().count("failed") == 2
    check_nothing_is_left(command)


def test_a_job_that_cannot_be_planned_is_told_and_has_failed(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    [planned] = plan_all(command.arguments("tracking=none"))
    lines = [[*planned.lines, "recipe.model.path=/gone/since"]]
    session = Session.begin([planned.plan], sweep=True, lines=lines)
    optimize.job(SimpleNamespace(session=str(session.directory), variant=0))
    assert "error: there is no directory /gone/since" in capsys.readouterr().err
    assert session.has_failed()
    assert optimize.conclude(session, [planned.plan]) == 1
    assert "there is no directory /gone/since" in capsys.readouterr().out
    check_nothing_is_left(command)


def test_a_session_is_for_the_eyes_of_its_owner(command: Command) -> None:
    [planned] = plan_all(command.arguments("tracking.uri=http://me:secret@host"))
    alone = Session.begin([planned.plan], sweep=False)
    assert "secret" not in "".join(path.read_text() for path in alone.directory.iterdir())
    launched = Session.begin([planned.plan], sweep=False, lines=[planned.lines])
    assert launched.directory.stat().st_mode & 0o077 == 0
    assert Session.join(launched.directory) == launched
    assert json.loads((launched.directory / "session.json").read_text())["lines"] == [[*planned.lines]]


def test_what_a_killed_session_left_is_removed(command: Command) -> None:
    [planned] = plan_all(command.arguments())
    alive = Session.begin([planned.plan], sweep=False)
    dead = alive.directory.with_name(alive.directory.name.replace(f".{os.getpid()}.", ".4194303."))
    shutil.copytree(alive.directory, dead)
    Session.begin([planned.plan], sweep=False)
    assert alive.directory.is_dir()
    assert not dead.exists()
