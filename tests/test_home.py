"""The one place outside the outputs, and files that are replaced in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.errors import UserError
from pocket_opt.home import home, read_json, write_atomically


def test_the_home_is_what_is_declared_or_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POCKET_OPT_HOME", "~/elsewhere")
    assert home() == tmp_path / "elsewhere"
    monkeypatch.delenv("POCKET_OPT_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() == tmp_path / ".cache" / "pocket_opt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "pocket_opt"


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKET_OPT_HOME", "here")
    assert home() == tmp_path / "here"


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.json"
    write_atomically(path, '{"a": 1}')
    write_atomically(path, '{"a": 2}')
    assert read_json(path) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["table.json"]


def test_what_cannot_be_written_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.json"]


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text("{")
    assert read_json(tmp_path / "damaged.json") is None
    assert read_json(tmp_path / "absent.json") is None
    assert read_json(tmp_path) is None


def test_a_home_of_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKET_OPT_HOME", "~nosuchuser/home")
    with pytest.raises(UserError, match="there is no user"):
        home()
