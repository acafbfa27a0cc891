"""Where `report` writes, and which database it records in: inside what was named, or a bundle's own outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from variant_fixtures import make

from pocket_opt import tracking
from pocket_opt.bundle import write_bundle
from pocket_opt.cli.main import main
from pocket_opt.tracking import Settings, Tracked


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle in its usual place."""
    made = make(tmp_path / "store")
    return write_bundle(made.variant, made.artifact, tmp_path / "outputs/pocket_whisper/cpu/HIGH-1").path


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The databases that bundles are recorded in, in order."""
    found: list[Path | None] = []

    def log(bundle: Path, settings: Settings, *, refresh: bool) -> Tracked:
        assert refresh
        found.append(settings.database)
        return Tracked("recorded")

    monkeypatch.setattr(tracking, "log_bundle", log)
    return found


def report(*words: object) -> None:
    assert main(["report", *map(str, words), "--log-to-mlflow"]) == 0


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("outputs", "outputs"),
        ("outputs/pocket_whisper", "outputs/pocket_whisper"),
        ("outputs/pocket_whisper/cpu", "outputs/pocket_whisper/cpu"),
        ("outputs/pocket_whisper/cpu/HIGH-1", "outputs"),
    ],
)
def test_bundles_in_their_usual_place(
    bundle: Path, databases: list[Path | None], tmp_path: Path, named: str, place: str
) -> None:
    report(tmp_path / named)
    assert [path.parent for path in tmp_path.rglob("report.html")] == [tmp_path / place]
    assert databases == [tmp_path / "outputs" / "mlflow.db"]


def test_a_bundle_named_from_its_own_directory(
    bundle: Path, databases: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    report(".")
    assert (tmp_path / "outputs/report.html").is_file()
    assert databases == [tmp_path / "outputs/mlflow.db"]


@pytest.mark.parametrize(("named", "place"), [("x", "x"), ("x/HIGH-1", "x")])
def test_a_bundle_that_was_moved(
    bundle: Path, databases: list[Path | None], tmp_path: Path, named: str, place: str
) -> None:
    shutil.move(bundle, tmp_path / "x/HIGH-1")
    report(tmp_path / named)
    assert [path.parent for path in tmp_path.rglob("report.html")] == [tmp_path / place]
    assert databases == [tmp_path / place / "mlflow.db"]


def test_several_outputs_keep_their_own_databases(
    bundle: Path, databases: list[Path | None], tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "outputs", tmp_path / "others")
    report(tmp_path / "outputs", tmp_path / "others", "--output", tmp_path / "both")
    assert [path.parent.name for path in tmp_path.rglob("report.html")] == ["both"]
    assert databases == [tmp_path / "outputs/mlflow.db", tmp_path / "others/mlflow.db"]
