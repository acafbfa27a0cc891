"""Names of what comes with the package, and paths as usual."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt import shipped
from pocket_opt.errors import UserError


def test_a_relative_path_and_a_tilde_are_meant_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    assert shipped.locate("model", holding="config.json", where="x") == Path("model")
    assert shipped.locate("~/model", holding="config.json", where="x") == Path("/home/user/model")
    assert shipped.locate("~nosuchuser/m", holding="config.json", where="x") == Path("~nosuchuser/m")


@pytest.mark.parametrize(
    ("name", "holding"),
    [("teacher", "config.json"), ("student", "config.json"), ("evaluation", "transcripts.*")],
)
def test_a_shipped_folder_is_meant_by_its_name(name: str, holding: str) -> None:
    assert shipped.is_shipped(f"sample:{name}")
    assert shipped.locate(f"sample:{name}", holding=holding, where="x") == shipped.FOLDER / name


@pytest.mark.parametrize("name", ["techer", "evaluation"])
def test_what_is_not_shipped_or_of_another_kind_is_told(name: str) -> None:
    with pytest.raises(UserError, match=f"there is no shipped sample '{name}'") as caught:
        shipped.locate(f"sample:{name}", holding="config.json", where="recipe.model.path")
    assert caught.value.where == "recipe.model.path"
    assert caught.value.allowed == "student, teacher"
