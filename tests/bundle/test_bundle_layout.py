"""Writing a bundle: what is in it, that it appears at once, and that an equal one is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from variant_fixtures import Made, key, make, metric, result

from pocket_opt.artifact import Artifact, Component
from pocket_opt.bundle import Bundle, find_bundles, publication, read_manifest, write_bundle
from pocket_opt.bundle import layout as bundle_layout
from pocket_opt.bundle.layout import open_bundle
from pocket_opt.bundle.schema import schema_errors
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.identity import file_digest

TESTS = Path(__file__).parent.parent


def write(made: Made, destination: Path) -> Bundle:
    return write_bundle(made.variant, made.artifact, destination, measurements=made.measurements)


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_a_bundle_holds_everything_and_its_manifest_says_so(tmp_path: Path) -> None:
    bundle = write(make(tmp_path / "store"), tmp_path / "out" / "HIGH-1")
    manifest = read_manifest(bundle.path)
    assert manifest == bundle.manifest
    assert schema_errors(manifest) == []
    listed = {row["path"] for row in manifest["files"]}
    assert names(bundle.path) == listed | {"manifest.json", "README.md"}
    assert {"run.py", "encoder.onnx", "tokenizer.json", "measurements/quality/hypotheses.jsonl"} <= listed
    for row in manifest["files"]:
        path = bundle.path / row["path"]
        assert (path.stat().st_size, file_digest(path)) == (row["size"], row["sha256"])
    assert bundle.artifact.components == make(tmp_path / "other").artifact.components
    assert manifest["components"]["encoder"]["inputs"] == [
        {"name": "features", "dtype": "float32", "shape": ["batch", 80, 400]}
    ]
    assert not list((tmp_path / "out").glob(".HIGH*"))


def test_read_only_files_of_the_store_are_shared_and_others_copied(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    made.artifact.path("mel").chmod(0o644)
    bundle = write(made, tmp_path / "HIGH")
    assert (bundle.path / "encoder.onnx").samefile(made.artifact.path("encoder"))
    assert not (bundle.path / "mel.onnx").samefile(made.artifact.path("mel"))


@pytest.mark.parametrize("level", ["HIGH", "NONE"])
def test_the_runner_is_the_family_s(tmp_path: Path, level: str) -> None:
    family = Path(bundle_layout.__file__).parent.parent / "models/whisper"
    bundle = write(make(tmp_path / "store", level), tmp_path / level)
    placed = {path.name: path.read_bytes() for path in (bundle.path / "runner").iterdir()}
    assert placed == {path.name: path.read_bytes() for path in (family / "runner").glob("*.py")}
    assert (bundle.path / "run.py").read_bytes() == (family / "run.py").read_bytes()


def test_a_family_without_a_runner_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    artifact = replace(made.artifact, metadata={**made.artifact.metadata, "family": "parrot"})
    with pytest.raises(PocketOptError, match="no stand-alone runner for the model family 'parrot'"):
        write_bundle(made.variant, artifact, tmp_path / "HIGH")
    assert not (tmp_path / "HIGH").exists()
    assert not list(tmp_path.glob(".HIGH*"))


@pytest.mark.parametrize(
    "name", ["manifest.json", "README.md", "run.py", "runner/x.py", "measurements/x.json"]
)
def test_a_model_file_cannot_take_a_place_of_the_bundle(tmp_path: Path, name: str) -> None:
    made = make(tmp_path / "store")
    place = made.artifact.root / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("{}")
    artifact = made.artifact.with_component("odd", Component("json", (name,)))
    with pytest.raises(PocketOptError, match="which a bundle needs for itself"):
        write_bundle(made.variant, artifact, tmp_path / "HIGH")


def test_a_measurement_that_breaks_the_schema_is_not_published(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    bad = result("quality", {"wer": {"value": "3.1", "unit": "%", "n": 1, "method": "guess"}})
    variant = replace(made.variant, measurements={"quality": bad})
    with pytest.raises(PocketOptError, match="would not follow its own schema") as caught:
        write_bundle(variant, made.artifact, tmp_path / "HIGH")
    assert "metrics/quality/wer/value" in caught.value.where
    assert not (tmp_path / "HIGH").exists()


def test_an_equal_bundle_is_kept_and_a_different_one_replaced(tmp_path: Path) -> None:
    made, place = make(tmp_path / "store"), tmp_path / "HIGH"
    first = write(made, place)
    inode = (place / "manifest.json").stat().st_ino
    (place / "my notes.txt").write_text("mine")
    assert write(made, place).manifest == first.manifest
    assert (place / "manifest.json").stat().st_ino == inode
    assert (place / "my notes.txt").exists()
    changed = replace(made, variant=replace(made.variant, budget={"wer_delta": 0.1}))
    second = write(changed, place)
    assert second.manifest["budget"]["verdict"] == "over_budget"
    assert (place / "manifest.json").stat().st_ino != inode
    assert not (place / "my notes.txt").exists()


def test_a_damaged_bundle_is_replaced_by_the_same_command(tmp_path: Path) -> None:
    made, place = make(tmp_path / "store"), tmp_path / "HIGH"
    write(made, place)
    (place / "run.py").write_text("raise SystemExit\n")
    (place / "encoder.onnx").unlink()
    write(made, place)
    manifest = read_manifest(place)
    assert all(file_digest(place / row["path"]) == row["sha256"] for row in manifest["files"])
    for text in ("{", '{"schema_version": 1, "files": [{"path": 3}]}', "[]"):
        (place / "manifest.json").write_text(text)
        assert write(made, place).manifest == read_manifest(place)


def test_unchanged_large_files_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, place = make(tmp_path / "store"), tmp_path / "HIGH"
    write(made, place)
    hashed: list[str] = []

    def spy(path: Path) -> str:
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(bundle_layout, "file_digest", spy)
    write(made, place)
    assert "encoder.onnx" not in hashed
    assert "run.py" in hashed


def test_without_an_exchange_two_renames_do_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "_exchange", lambda stage, destination: False)
    made, place = make(tmp_path / "store"), tmp_path / "HIGH"
    write(made, place)
    write(replace(made, variant=replace(made.variant, seed=1)), place)
    assert read_manifest(place)["seed"] == 1
    assert not list(tmp_path.glob(".HIGH*"))


def test_what_a_killed_writer_left_is_put_back_or_removed(tmp_path: Path) -> None:
    made, place = make(tmp_path / "store"), tmp_path / "HIGH"
    write(made, place)
    place.rename(tmp_path / ".HIGH.old-12345678")
    (tmp_path / ".HIGH.new-12345678").mkdir()
    (tmp_path / ".HIGHER.new-12345678").mkdir()
    with publication.staging(place):
        assert read_manifest(place)["level"] == "HIGH"
        assert len(list(tmp_path.glob(".HIGH.*"))) == 1
    assert not list(tmp_path.glob(".HIGH.*"))
    assert (tmp_path / ".HIGHER.new-12345678").exists()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from variant_fixtures import make
    from pocket_opt.bundle import write_bundle
    root, seed, victim = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    calls = 0
    events = ("os.rename", "os.link", "os.mkdir", "shutil.copyfile", "os.remove", "os.rmdir", "open")

    def watch(event, args):
        global calls
        if event in events and "HIGH" in str(args[:2]):
            calls += 1
            if victim == str(calls):
                os.kill(os.getpid(), signal.SIGKILL)

    made = make(root / f"store{{seed}}", seed=seed)
    sys.addaudithook(watch)
    write_bundle(made.variant, made.artifact, root / "out" / "HIGH-1", measurements=made.measurements)
    print(calls)
"""


def killed_writer(root: Path, seed: int, victim: int) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(KILLED.format(tests=str(TESTS)))
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", script, str(root), str(seed), str(victim)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_kill_at_any_moment_leaves_the_older_bundle_or_the_new_one(tmp_path: Path) -> None:
    whole = killed_writer(tmp_path, 0, -1)
    assert whole.returncode == 0, whole.stderr
    place = tmp_path / "out" / "HIGH-1"
    steps = int(killed_writer(tmp_path, 1, -1).stdout)
    seen: set[Any] = set()
    for victim in sorted({1, 2, steps // 3, steps // 2, steps - 8, steps - 3, steps - 1, steps}):
        before = read_manifest(place)["seed"]
        assert killed_writer(tmp_path, 1 - before, victim).returncode == -signal.SIGKILL
        manifest = read_manifest(place)
        assert schema_errors(manifest) == []
        assert all(file_digest(place / row["path"]) == row["sha256"] for row in manifest["files"])
        seen.add(manifest["seed"] == before)
        assert killed_writer(tmp_path, 1 - before, -1).returncode == 0
        assert read_manifest(place)["seed"] == 1 - before
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".bundles.lock", "HIGH-1"]
    assert seen == {True, False}


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    made = make(tmp_path / "store", "BASIC")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 300_000)
    with pytest.raises(PocketOptError, match="the disk is full"):
        write(made, small_disk / "BASIC")
    assert not (small_disk / "BASIC").exists()
    assert not list(small_disk.glob(".BASIC*"))


def test_bundles_are_found_below_a_directory(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    for name in ("a/HIGH", "b/HIGH", ".hidden/HIGH", "mlartifacts/x/bundle"):
        write(made, tmp_path / "out" / name)
    assert find_bundles([tmp_path / "out"]) == [tmp_path / "out/a/HIGH", tmp_path / "out/b/HIGH"]
    assert find_bundles([tmp_path / "out/a/HIGH", tmp_path / "out"]) == [
        tmp_path / "out/a/HIGH",
        tmp_path / "out/b/HIGH",
    ]
    assert publication.bundle_directory(tmp_path, "r", "cpu", "HIGH", key("row")).parent == tmp_path / "r/cpu"


def test_a_directory_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no bundle: it has no manifest\.json"):
        open_bundle(tmp_path)
    with pytest.raises(UserError, match="is no bundle"):
        open_bundle(tmp_path / "absent")


def test_results_lose_their_paths_on_the_way(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    place = made.measurements["latency"].root / "result.json"
    table = result("latency", {"rtf_p50": metric(0.1, "")}, model="/home/anna/model.onnx")
    place.write_text(json.dumps(table))
    bundle = write(made, tmp_path / "HIGH")
    assert "anna" not in (bundle.path / "measurements/latency/result.json").read_text()
    assert not (bundle.path / "measurements/baseline.quality").exists()


def test_measurements_are_optional(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    bundle = write_bundle(made.variant, made.artifact, tmp_path / "HIGH")
    assert isinstance(bundle.artifact, Artifact)
    assert not (bundle.path / "measurements").exists()
