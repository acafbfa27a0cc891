"""The real command on a small model: random weights, four tones, and only the nodes that a test needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from planned_inputs import write_clips
from real_command import Command
from whisper_fixtures import tiny_checkpoint

from pocket_opt import tracking_store

RECIPE = """\
summary: a small model with random weights
family: whisper
license: MIT
model: {{path: {place}/model}}
student: {{path: {place}/student}}
data: {{evaluation: {place}/clips}}
budget: {{HIGH: {{wer_delta: 1000}}}}
"""


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `model`, `student`, `clips` and the recipe `tiny.yaml` that names them."""
    place = tmp_path_factory.mktemp("speech")
    tiny_checkpoint(place / "model")
    tiny_checkpoint(place / "student", encoder_layers=1, decoder_layers=1, seed=2)
    write_clips(place / "clips", count=4, seconds=1.0)
    (place / "tiny.yaml").write_text(RECIPE.format(place=place))
    return place


@pytest.fixture(scope="session")
def made_once(speech: Path, quick_root: Path) -> Command:
    """A finished run at BASIC, without tracking. Do not change it; copy it."""
    place = quick_root / "made"
    command = Command(speech / "tiny.yaml", place / "home", place / "outputs")
    done = command.run("tracking=none")
    assert done.returncode == 0, done.stderr
    return command


@pytest.fixture
def command(speech: Path, own_home: Path, quick_path: Path) -> Command:
    """A command with nothing made yet."""
    return Command(speech / "tiny.yaml", own_home, quick_path / "outputs")


@pytest.fixture
def cached_command(command: Command, made_once: Command) -> Command:
    """A command whose nodes are all in its store, and which has no outputs yet."""
    shutil.copytree(made_once.home, command.home, dirs_exist_ok=True)
    return command


@pytest.fixture(scope="session")
def empty_database(quick_root: Path) -> Path:
    """An MLflow database without runs; building one takes seconds."""
    from mlflow import MlflowClient

    path = quick_root / "mlflow.db"
    tracking_store.create_database(path, MlflowClient)
    return path


@pytest.fixture
def tracked_command(cached_command: Command, empty_database: Path) -> Command:
    """A command whose nodes are all in its store, with an MLflow database but no bundle."""
    cached_command.output.mkdir()
    shutil.copyfile(empty_database, cached_command.output / "mlflow.db")
    return cached_command


@pytest.fixture
def bundle(made_once: Command, quick_path: Path) -> Path:
    """A copy of a finished bundle."""
    return Path(shutil.copytree(made_once.bundles()[0], quick_path / "bundle"))
