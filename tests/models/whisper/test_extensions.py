"""The package that reads audio files inside a graph is asked for in words, where it is missing or cuts files short."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner import extensions
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.planner import plan_variant


def pretend(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(extensions, "version", version)


@pytest.mark.parametrize(
    ("found", "words"),
    [(None, "is missing"), ("0.15.2", "ends of files are dropped"), ("0.9.0", "0.14 is needed")],
)
def test_what_does_not_work_is_refused_when_opening_and_when_planning(
    found: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, found)
    with pytest.raises(RequestError, match=words) as caught:
        extensions.extensions_library()
    assert "pip install" in str(caught.value)
    lines = ("decoder=all_in_one", "decoder.audio=file")
    with pytest.raises(UserError, match=words) as refused:
        plan_variant(load(lines), lines)
    assert "decoder.audio=samples" in refused.value.fix
    assert "nodes.compose" in refused.value.where


def test_what_works_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "0.14.3")
    lines = ("decoder=all_in_one", "decoder.audio=file")
    [compose] = [node for node in plan_variant(load(lines), lines).graph if node.name == "compose"]
    assert compose.params["audio"] == "file"
