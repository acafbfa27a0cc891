"""What every test has: a home of its own, no hub, and on request small disks and passes that cost nothing."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.passes import pass_modules

TESTS = Path(__file__).resolve().parent
FAKE_PASSES = ("fake_source", "fake_add", "fake_number", "fake_difference", "fake_calibrated")


@pytest.fixture(scope="session")
def quick_root() -> Iterator[Path]:
    """A directory in memory where there is one: every publication syncs its files, which busy disks take long for."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4e9
    root = Path(tempfile.mkdtemp(prefix="pocket_opt-tests-", dir=memory if usable else None))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def quick_path(quick_root: Path) -> Iterator[Path]:
    """A new directory like `tmp_path`, on a file system where syncing costs nothing; removed after the test."""
    path = Path(tempfile.mkdtemp(dir=quick_root))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_home(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty POCKET_OPT_HOME, and no settings of the person who runs the tests."""
    home = quick_path / "home"
    home.mkdir()
    monkeypatch.setenv("POCKET_OPT_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (*groups.USER_FOLDERS.values(), "MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    groups.choices.cache_clear()
    return home


@pytest.fixture
def fake_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The passes of tests/fake_passes, installed as another distribution would; gives the log of their runs."""
    site = tmp_path / "site"
    info = site / "fake_passes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-passes\nVersion: 1.0\n")
    lines = [f"{name} = fake_passes.{name}" for name in FAKE_PASSES]
    (info / "entry_points.txt").write_text("[pocket_opt.passes]\n" + "\n".join(lines) + "\n")
    log = tmp_path / "runs.log"
    log.touch()
    monkeypatch.setenv("FAKE_PASSES_LOG", str(log))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(site), str(TESTS), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.syspath_prepend(str(site))
    pass_modules.cache_clear()
    importlib.invalidate_caches()
    yield log
    pass_modules.cache_clear()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
