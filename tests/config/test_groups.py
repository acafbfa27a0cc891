"""The named choices and their files: shipped ones, the user's own, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.errors import UserError


@pytest.fixture
def own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], str(folder))
    groups.choices.cache_clear()
    return folder


def test_every_group_has_choices_and_every_choice_one_line() -> None:
    assert set(groups.choices("level")) == {"NONE", "BASIC", "MEDIUM", "HIGH", "EXTREME"}
    assert {"pocket_whisper", "whisper_tiny", "whisper_large_v3_turbo"} <= set(groups.choices("recipe"))
    assert set(groups.choices("decoder")) >= {"basic", "kv_cache"}
    for group in groups.GROUPS:
        assert groups.choices(group)
    for group in ("recipe", "target", "level", "experiment"):
        for name in groups.choices(group):
            assert groups.summary(group, name), f"{group} {name} says nothing of itself"


def test_the_name_in_a_file_is_the_name_of_the_file() -> None:
    for group in ("target", "level", "decoder", "decoding", "search", "tracking"):
        for name, path in groups.choices(group).items():
            assert groups.read_yaml(path).get("name", name) == name
            assert "name" in groups.read_yaml(path) or groups.canonical(group, name) != name


def test_every_target_has_a_choice_and_every_choice_a_target() -> None:
    from pocket_opt.targets import target_names

    assert sorted({groups.canonical("target", name) for name in groups.choices("target")}) == target_names()


def test_a_summary_is_the_key_or_the_first_comment_or_nothing(own_recipes: Path) -> None:
    (own_recipes / "a.yaml").write_text("# not this\nsummary: the key\n")
    (own_recipes / "b.yaml").write_text("# the comment\nfamily: whisper\n")
    (own_recipes / "c.yaml").write_text("family: whisper\n")
    assert [groups.summary("recipe", name) for name in "abc"] == ["the key", "the comment", ""]


def test_the_users_recipes_are_choices_and_win_over_shipped_ones(own_recipes: Path) -> None:
    (own_recipes / "mine.yaml").write_text("family: whisper\n")
    (own_recipes / "whisper_tiny.yaml").write_text("family: whisper\n")
    (own_recipes / "notes.txt").write_text("no recipe")
    found = groups.choices("recipe")
    assert found["mine"] == own_recipes / "mine.yaml"
    assert found["whisper_tiny"] == own_recipes / "whisper_tiny.yaml"
    assert "notes" not in found
    assert "pocket_whisper" in found
    assert "mine" not in groups.choices("level")


def test_a_directory_of_recipes_that_is_not_there_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], "/no/where/recipes")
    groups.choices.cache_clear()
    with pytest.raises(UserError, match="there is no directory /no/where/recipes") as caught:
        groups.choices("recipe")
    assert caught.value.where == "$POCKET_OPT_RECIPES"


def test_a_directory_of_a_user_who_is_not_there_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], "~nosuchuser/recipes")
    groups.choices.cache_clear()
    with pytest.raises(UserError, match="there is no home directory '~nosuchuser'") as caught:
        groups.choices("recipe")
    assert caught.value.where == "$POCKET_OPT_RECIPES"


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", "expected ',' or ']'", ", line 3"),
        (b"a: 1\n\tb: 2\n", "found", ", line 2"),
        (b"a: b: c\n", "mapping values are not allowed", ", line 1"),
        (b"- a\n- b\n", "the file holds no table of keys", ""),
        (b"", "the file holds no table of keys", ""),
        (b"just text", "the file holds no table of keys", ""),
        (b"a: \xff\xfe\n", "the file cannot be read", ""),
        (b"a: \x00\n", "characters are not allowed", ""),
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path: Path, content: bytes, what: str, where: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        groups.read_yaml(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}{where}"


def test_a_file_that_is_not_there_or_a_directory_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match="the file cannot be read"):
            groups.read_yaml(path)


def test_a_recipe_names_no_code(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: !!python/object/apply:os.system [echo]\n")
    with pytest.raises(UserError, match="could not determine a constructor"):
        groups.read_yaml(path)


@pytest.mark.parametrize(
    ("text", "is_file"),
    [
        ("whisper_tiny", False),
        ("mine.yaml", True),
        ("mine.yml", True),
        ("dir/mine", True),
        ("my.recipe", False),
    ],
)
def test_a_recipe_is_a_name_or_a_path(text: str, *, is_file: bool) -> None:
    assert (groups.recipe_file(text) is not None) == is_file


def test_folders_are_found_beside_a_checkout_and_inside_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert groups.data_folder("recipes") == groups.PACKAGE.parent / "recipes"
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(groups, "PACKAGE", tmp_path)
    assert groups.data_folder("recipes") == tmp_path / "recipes"
    assert groups.data_folder("conf") == tmp_path.parent / "conf"
