"""The real command on a small model: random weights, four tones, and only the nodes that a test needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from planned_inputs import write_clips
from whisper_fixtures import tiny_checkpoint

from pocket_opt import tracking_store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """\
summary: a small model with random weights
family: whisper
license: MIT
model: {{path: {place}/model}}
student: {{path: {place}/student}}
data: {{evaluation: {place}/clips}}
budget: {{HIGH: {{wer_delta: 1000}}}}
"""
SWITCHED_OFF = (
    *("memory", "latency", "profile", "parity"),
    *("baseline.quality", "baseline.latency", "baseline.memory"),
)
QUICK = (*(f"~nodes.{name}" for name in SWITCHED_OFF), "decoding.max_new_tokens=8")
"""Only build, export and fuse the model, and decode the clips once."""


@dataclass(frozen=True)
class Command:
    """`python -m pocket_opt` with a home, an output directory and a recipe of its own."""

    recipe: Path
    home: Path
    output: Path

    def arguments(self, *words: str) -> list[str]:
        """The arguments of a run at BASIC with few nodes; `words` come last."""
        return [f"recipe={self.recipe}", "level=BASIC", f"output_dir={self.output}", *QUICK, *words]

    def environment(self) -> dict[str, str]:
        """What the process is given."""
        own = {"POCKET_OPT_HOME": str(self.home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return {**os.environ, **own}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the run and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "pocket_opt", *self.arguments(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def bundles(self) -> list[Path]:
        """Every bundle that lies in the output directory."""
        return sorted(path.parent for path in self.output.glob("*/*/*/manifest.json"))


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
