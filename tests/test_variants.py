"""What is claimed for a variant follows from what ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planned_inputs import write_clips, write_model

from pocket_opt import plan
from pocket_opt.errors import PocketOptError
from pocket_opt.home import home, write_atomically
from pocket_opt.models import hub
from pocket_opt.variants import verification, with_downloads

PARTS = ("latency", "memory", "profile", "parity")


@pytest.mark.parametrize(
    ("off", "decoded", "how", "scope"),
    [
        ((), 3, "native", "all 3 clips"),
        ((), 2, "native", "2 of 3 clips"),
        (("quality",), 0, "native", "executed for latency, memory, profile, parity; not scored"),
        (("quality", *PARTS), 0, "structural", "not executed"),
    ],
)
def test_the_scope_is_what_was_measured(
    tmp_path: Path, off: tuple[str, ...], decoded: int, how: str, scope: str
) -> None:
    inputs = [
        f"recipe.model.path={write_model(tmp_path / 'model')}",
        f"data.evaluation.path={write_clips(tmp_path / 'clips')}",
    ]
    planned = plan(overrides=[*inputs, *(f"~nodes.{name}" for name in off)])
    measured = {"quality": {"metrics": {"clips": {"value": decoded}}}}
    assert verification(planned, measured) == {"how": how, "scope": scope}


def test_a_model_is_downloaded_before_its_variant_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "snapshot")
    fetched: list[tuple[str, str]] = []

    def fetch(hub_id: str, revision: str, *, text: bool) -> None:
        fetched.append((hub_id, revision))
        table = {f"{hub_id}@{revision}": {"path": str(model), "commit": "c0ffee"}}
        write_atomically(home() / "hub" / "revisions.json", json.dumps(table))

    monkeypatch.setattr(hub, "fetch", fetch)
    unknown = plan("whisper_tiny", overrides=["seed=3"])
    assert unknown.downloads == [("openai/whisper-tiny", "main")]
    known = with_downloads(unknown)
    assert fetched == unknown.downloads
    assert known.downloads == []
    assert known.graph["source"].neutral["path"] == str(model)
    assert known.graph["source"].params["digest"]
    assert known.roots["source"].identity["revision"] == "c0ffee"
    assert known.row_key == unknown.row_key
    assert with_downloads(known) is known


def test_a_download_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda hub_id, revision, text: None)
    with pytest.raises(PocketOptError, match="a downloaded model vanished") as caught:
        with_downloads(plan("whisper_tiny"))
    assert caught.value.where == "openai/whisper-tiny"
