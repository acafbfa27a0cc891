"""The disk's refusals in words: what was refused, and only then what helps."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pocket_opt.disk import refusal_of, storage_error, unexpected


def refused(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "free space (`pocket-opt gc`)"),
        (errno.EDQUOT, "the disk quota is used up", "free space (`pocket-opt gc`)"),
        (errno.EROFS, "the file system is read-only", "set POCKET_OPT_HOME"),
        (errno.EACCES, "no permission to write", "change the permissions"),
        (errno.EIO, "the disk refused (Input/output error)", "look at that place"),
    ],
)
def test_a_refusal_says_what_helps(tmp_path: Path, number: int, what: str, fix: str) -> None:
    error = storage_error(refused(number, tmp_path / "file"), tmp_path)
    assert error.what == what
    assert error.where == str(tmp_path / "file")
    assert error.fix.startswith(fix)
    assert ("free space" in error.fix) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_an_input_that_may_not_be_read_is_not_told_as_one_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    error = storage_error(refused(errno.EACCES, tmp_path), tmp_path)
    assert error.what == "no permission to read"
    assert "POCKET_OPT_HOME" not in error.fix


def test_a_socket_that_is_refused_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    assert refusal_of(refused(errno.EACCES), tmp_path) is None


def test_what_nobody_foresaw_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = unexpected(ValueError("bad\n  shape"), tmp_path)
    assert str(error) == "internal error (ValueError: bad shape); HYDRA_FULL_ERROR=1 shows where"
    assert error.exit_code == 1
    assert unexpected(refused(errno.ENOSPC, tmp_path), tmp_path).what == "the disk is full"


def test_the_traceback_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unexpected(ValueError("x"), tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    try:
        raise ValueError("the cause")
    except ValueError as error:
        unexpected(error, tmp_path)
    assert "Traceback" in capsys.readouterr().err
