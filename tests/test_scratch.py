"""Directories of a process: removed after use, and after a kill by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_opt.errors import PocketOptError
from pocket_opt.home import home
from pocket_opt.scratch import HOST, is_alive, own_name, scratch, sweep_dead


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_scratch_directory_lives_in_the_home_and_goes_with_its_files() -> None:
    with scratch("job") as folder:
        assert folder.parent == home() / "scratch"
        assert folder.name.startswith(f"job.{HOST}.{os.getpid()}.")
        (folder / "file").write_text("x")
        (folder / "file").chmod(0o444)
    assert not folder.exists()


def test_it_goes_after_an_error_too() -> None:
    with pytest.raises(ValueError, match="x"), scratch("job") as folder:
        raise ValueError("x")
    assert not folder.exists()


def test_only_what_dead_processes_of_this_host_left_is_swept(tmp_path: Path) -> None:
    kept = [own_name("job"), f"job.another-machine.{dead_pid()}.aaaa", "a.b.c.d", "plain"]
    for name in [*kept, f"job.{HOST}.{dead_pid()}.bbbb"]:
        (tmp_path / name / "below").mkdir(parents=True)
    sweep_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    sweep_dead(tmp_path / "absent")


def test_a_home_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POCKET_OPT_HOME", str(tmp_path / "file"))
    with pytest.raises(PocketOptError, match="the disk refused"), scratch("job"):
        pass


def test_a_process_is_alive_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_alive(os.getpid())
    assert not is_alive(dead_pid())

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(1)
