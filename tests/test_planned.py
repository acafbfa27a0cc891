"""The variants of a command line: planned together, each a bundle of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_inputs import write_clips, write_model

from pocket_opt.cli.planned import plan_all
from pocket_opt.errors import UserError
from pocket_opt.variants import destination

RECIPE = "family: whisper\nlicense: {license}\nmodel: {{path: {place}/model}}\ndata: {{evaluation: {place}/clips}}\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    write_clips(tmp_path / "clips")
    for folder, terms in (("a", "MIT"), ("b", "other"), ("c", "MIT")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(RECIPE.format(license=terms, place=tmp_path))
    return tmp_path


def test_recipe_files_of_one_name_are_bundles_of_their_own(place: Path) -> None:
    found = plan_all(["-m", f"recipe={place}/a/mine.yaml,{place}/b/mine.yaml"])
    first, second = (destination(variant.plan) for variant in found)
    assert first.parent == second.parent
    assert first != second
    assert [variant.plan.config.recipe.license for variant in found] == ["MIT", "other"]


def test_the_same_recipe_file_elsewhere_is_the_same_bundle(place: Path) -> None:
    [here], [there] = (plan_all([f"recipe={place}/{folder}/mine.yaml"]) for folder in "ac")
    assert destination(here.plan) == destination(there.plan)
    with pytest.raises(UserError, match="would be the same bundle") as caught:
        plan_all(["-m", f"recipe={place}/a/mine.yaml,{place}/c/mine.yaml"])
    assert f"recipe={place}/a/mine.yaml" in caught.value.what
    assert f"recipe={place}/c/mine.yaml" in caught.value.what


def test_a_recipe_file_is_not_the_shipped_recipe_of_its_name(place: Path) -> None:
    own = (place / "a" / "mine.yaml").rename(place / "a" / "whisper_tiny.yaml")
    [mine], [shipped] = plan_all([f"recipe={own}"]), plan_all(["recipe=whisper_tiny"])
    assert destination(mine.plan) != destination(shipped.plan)
    assert shipped.plan.overrides == ()


def test_the_rows_of_named_recipes_are_pinned() -> None:
    [plain] = plan_all(["recipe=whisper_tiny", "level=HIGH"])
    assert destination(plain.plan).name == "HIGH-ea6e9b56"
    words = ["seed=3", "~nodes.fuse", "nodes.export.params.decoder=basic", "decoding.language=de"]
    [changed] = plan_all(["recipe=whisper_tiny", "level=HIGH", *words])
    assert destination(changed.plan).name == "HIGH-aed6ca84"


def test_a_sweep_over_what_makes_no_other_bundle_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="the same bundle: timeout_s=5 and timeout_s=6") as caught:
        plan_all(["-m", f"recipe={place}/a/mine.yaml", "timeout_s=5,6"])
    assert caught.value.exit_code == 2
    assert len(plan_all(["-m", f"recipe={place}/a/mine.yaml", "output_dir=one,two"])) == 2
