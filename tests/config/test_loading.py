"""From overrides to a checked configuration through Hydra, from any directory; and the expansion of sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.config.loading import BASIC, expand, from_table, launcher, load
from pocket_opt.config.schema import LEVELS
from pocket_opt.errors import UserError

RECIPE = """\
family: whisper
license: MIT
model: {path: somewhere}
budget: {HIGH: {wer_delta: 1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_the_defaults_are_the_sample_on_the_cpu_at_high() -> None:
    config = load([])
    assert (config.recipe.name, config.target.name, config.level.name) == ("pocket_whisper", "cpu", "HIGH")
    assert (config.decoder.name, config.decoding.name, config.tracking.name) == (
        "kv_cache",
        "greedy",
        "mlflow",
    )
    assert config.nodes == {}
    assert config.recipe.student is not None


@pytest.mark.parametrize(
    "line", [f"{group}={name}" for group in groups.GROUPS for name in groups.choices(group)]
)
def test_every_choice_of_every_group_loads(line: str) -> None:
    group, name = line.split("=")
    config = load([line])
    if group != "experiment":
        assert getattr(config, group).name == (name if group == "recipe" else groups.canonical(group, name))


def test_levels_are_ranked_in_order() -> None:
    assert [load([f"level={name}"]).level.rank for name in LEVELS] == [0, 1, 2, 3, 4]


def test_a_recipe_may_begin_with_another() -> None:
    tiny, small = load(["recipe=whisper_tiny"]).recipe, load(["recipe=whisper_small"]).recipe
    assert small.name == "whisper_small"
    assert small.budget == tiny.budget
    assert small.model.hub == "openai/whisper-small"
    assert small.model.architecture["mels"] == tiny.model.architecture["mels"]
    assert small.model.architecture["encoder_layers"] == 12


def test_a_recipe_of_a_new_size_takes_at_most_ten_lines() -> None:
    for name, path in groups.choices("recipe").items():
        if name.startswith(("whisper_", "distil_")):
            assert len(path.read_text().splitlines()) <= 10


def test_every_key_can_be_set_also_one_that_the_files_leave_out() -> None:
    config = load(
        [
            "recipe.model.weights=random",
            "recipe.model.architecture.d_model=64",
            "recipe.budget.HIGH.wer_delta=7",
            "recipe.summary='commas, and spaces'",
            "decoding.language=de",
            "decoding.max_new_tokens=12",
            "target.threads=2",
            "data.evaluation.limit=5",
            "nodes.fuse.params.x=1",
            "nodes.extra={pass: fuse, after: export}",
            "~nodes.fp16",
            "timeout_s=7",
            "output_dir=/tmp/a b",
        ]
    )
    assert config.recipe.model.weights == "random"
    assert config.recipe.model.architecture["d_model"] == 64
    assert config.recipe.budget["HIGH"] == {"wer_delta": 7.0}
    assert config.recipe.summary == "commas, and spaces"
    assert config.decoding.language == "de"
    assert config.decoding.max_new_tokens == 12
    assert config.data.evaluation.limit == 5
    assert config.nodes == {
        "fuse": {"params": {"x": 1}},
        "extra": {"pass": "fuse", "after": "export"},
        "fp16": {"enabled": False},
    }
    assert config.timeout_s == 7.0
    assert config.output_dir == "/tmp/a b"


@pytest.mark.parametrize("path", ["~/x", "/a(b)", "a=b", "it's", "C:\\x\\", "\\'", "/a#b: c", "%!&*"])
def test_a_path_is_taken_as_it_is_typed(path: str) -> None:
    assert load([f"recipe.model.path={path}"]).recipe.model.path == path


def test_the_last_one_wins() -> None:
    assert load(["seed=1", "seed=2", "level=NONE", "level=BASIC"]).seed == 2
    assert load(["level=NONE", "level=BASIC"]).level.name == "BASIC"


def test_it_works_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(["recipe=whisper_base"]).recipe.name == "whisper_base"


def test_a_recipe_file_by_absolute_and_relative_path(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    for text in (str(recipe), "./mine.yaml", "mine.yaml"):
        found = load([f"recipe={text}"]).recipe
        assert (found.name, found.license) == ("mine", "MIT")


@pytest.mark.parametrize("name", ["with-dash", "with.dot", "with space", "whisper_tiny", "1st"])
def test_a_recipe_file_may_have_any_usual_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(RECIPE)
    assert load([f"recipe={path}"]).recipe.name == name
    assert load(["recipe=whisper_tiny"]).recipe.license == "Apache-2.0"


def test_a_recipe_file_may_begin_with_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [whisper_tiny, _self_]\nlicense: MIT\n")
    found = load([f"recipe={path}"]).recipe
    assert (found.name, found.license, found.model.hub) == ("mine", "MIT", "openai/whisper-tiny")


def test_a_recipe_file_may_begin_with_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "whisper_tiny.yaml"
    path.write_text("defaults: [whisper_tiny, _self_]\nlicense: MIT\n")
    found = load([f"recipe={path}"]).recipe
    assert (found.name, found.license, found.model.hub) == ("whisper_tiny", "MIT", "openai/whisper-tiny")
    assert load(["recipe=whisper_tiny"]).recipe.license == "Apache-2.0"


def test_a_date_is_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace("somewhere", "x, revision: 2024-01-01") + "summary: 2024-01-02 10:00:00\n")
    found = load([f"recipe={path}"]).recipe
    assert (found.model.revision, found.summary) == ("2024-01-01", "2024-01-02 10:00:00")


def test_the_users_directory_of_recipes(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], str(recipe.parent))
    groups.choices.cache_clear()
    assert load(["recipe=mine"]).recipe.license == "MIT"


# mistakes


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("seed=abc", "'abc' (str) stands where a whole number is expected"),
        ("seed=1.5", "'1.5' (float) stands where a whole number is expected"),
        ("seed=-1", "'-1' (int) stands where a number from 0 on is expected"),
        ("~seed", "nothing stands where a whole number is expected"),
        ("fail_fast=yes", "'yes' (str) stands where true or false is expected"),
        ("timeout_s=0", "stands where a number from 1 on is expected"),
        ("data.evaluation.limit=0", "'0' (int) stands where a number from 1 on is expected"),
        ("decoding.batch_size=-3", "'-3' (int) stands where a number from 1 on is expected"),
        ("decoding.max_new_tokens=0", "'0' (int) stands where a number from 1 on is expected"),
        ("decoding.beams=6", "'6' (int) stands where a number from 1 to 5 is expected"),
        ("decoding.beams=0", "'0' (int) stands where a number from 1 to 5 is expected"),
        ("target.threads=-1", "'-1' (int) stands where a number from 0 on is expected"),
        ("level.intents.weights=int3", "there is no value 'int3', did you mean 'int8'?"),
        ("level.name=FOO", "there is no level 'FOO'"),
        ("decoding.task=translte", "there is no value 'translte', did you mean 'translate'?"),
        ("recipe.family=whispr", "there is no value 'whispr', did you mean 'whisper'?"),
        ("recipe.model=3", "'3' (int) stands where a table of keys is expected"),
        ("recipe.model={pth: x}", "there is no key 'pth', did you mean 'path'?"),
        ("recipe.model.architecture.d_model=big", "'big' (str) stands where a whole number"),
        ("output_dir=null", "nothing stands where text is expected"),
        ("output_dir=", "the text is empty where a place is to be named"),
        ("output_dir=~nosuchuser/x", "there is no home directory '~nosuchuser'"),
        ("data.evaluation.path=", "the text is empty"),
        ("data.evaluation.path=''", "the text is empty"),
        ("data.calibration.path= ", "the text is empty"),
        ("recipe.data.evaluation=", "the text is empty"),
        ("recipe.data.calibration=", "the text is empty"),
        ("recipe.model.path=", "the text is empty"),
        ("recipe.model.path=~nosuchuser/m", "there is no home directory '~nosuchuser'"),
        ("recipe.model.hub=", "the text is empty"),
        ("recipe.student.path=", "the text is empty"),
        ("tracking.uri=", "the text is empty"),
        ("nodes=3", "'3' (int) stands where a table of keys is expected"),
        ("nodes.x.params={", "the value cannot be read"),
    ],
)
def test_a_wrong_value_is_told_with_the_override(line: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        load([line])
    assert what in caught.value.what
    assert caught.value.where == f"command line: {line}"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("content", "what", "key"),
    [
        (RECIPE + "lisence: MIT\n", "there is no key 'lisence', did you mean 'license'?", "recipe"),
        (RECIPE.replace("path", "pth"), "there is no key 'pth', did you mean 'path'?", "recipe.model"),
        (RECIPE.replace("HIGH", "HIHG"), "there is no value 'HIHG', did you mean 'HIGH'?", "recipe.budget"),
        (
            RECIPE.replace("wer_delta: 1", "wer_delta: x"),
            "'x' (str) stands where a number",
            "recipe.budget.HIGH.wer_delta",
        ),
        (RECIPE.replace("MIT", "[MIT]"), "stands where text is expected", "recipe.license"),
        (RECIPE.replace("license: MIT\n", ""), "the key 'license' is missing", "recipe"),
        (RECIPE + "_target_: os.system\n", "there is no key '_target_'", "recipe"),
        (RECIPE.replace("somewhere", "x, _target_: os.system"), "there is no key '_target_'", "recipe.model"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_with_its_file(
    tmp_path: Path, content: str, what: str, key: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load([f"recipe={path}", "seed=3"])
    assert what in caught.value.what
    assert caught.value.where == f"{path}: {key}"


@pytest.mark.parametrize(
    ("content", "what", "key"),
    [
        (
            "defaults: [whisper_tyni, _self_]\n",
            "no recipe 'whisper_tyni', did you mean 'whisper_tiny'",
            ": defaults",
        ),
        ("defaults: whisper_tiny\n", "'whisper_tiny' is no list of recipes", ": defaults"),
        ("defaults: [{recipe: whisper_tiny}]\n", "is no list of recipes", ": defaults"),
        (RECIPE + "summary: !!set {a}\n", "is not a supported primitive type", ""),
        (RECIPE.replace("somewhere", "'${a'"), "no viable alternative at input '${a'", ""),
    ],
)
def test_what_cannot_be_put_together_is_told_with_its_file(
    tmp_path: Path, content: str, what: str, key: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load([f"recipe={path}"])
    assert what in caught.value.what
    assert caught.value.where == f"{path}{key}"


def test_recipes_that_begin_with_one_another_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], str(tmp_path))
    for names in (("whisper_tiny", "whisper_tiny"), ("one", "two")):
        for name, base in (names, names[::-1]):
            (tmp_path / f"{name}.yaml").write_text(f"defaults: [{base}, _self_]\n")
        groups.choices.cache_clear()
        with pytest.raises(UserError, match="the recipe begins with itself") as caught:
            load(["recipe=pocket_whisper"])
        assert caught.value.where.startswith(str(tmp_path))
        for name in names:
            (tmp_path / f"{name}.yaml").unlink(missing_ok=True)


def test_a_recipe_of_a_user_who_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="there is no home directory '~nosuchuser'"):
        load(["recipe=~nosuchuser/m.yaml"])


def test_a_recipe_in_the_users_directory_is_named_by_its_file(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text(RECIPE + "lisence: MIT\n")
    monkeypatch.setenv(groups.USER_FOLDERS["recipe"], str(recipe.parent))
    groups.choices.cache_clear()
    with pytest.raises(UserError, match="did you mean 'license'") as caught:
        load(["recipe=mine"])
    assert caught.value.where == f"{recipe}: recipe"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (RECIPE.replace("somewhere", "'${nowhere}'"), "Interpolation key 'nowhere' not found"),
        (RECIPE.replace("somewhere", "'${oc.env:NOT_SET}'"), "Environment variable 'NOT_SET' not found"),
    ],
)
def test_what_hydra_refuses_is_one_error_of_ours(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load([f"recipe={path}"])
    assert what in caught.value.what
    assert "\n" not in caught.value.what


def test_the_whole_error_of_hydra_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.errors import HydraException

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HydraException):
        load(["nodes.x.params={"])


def test_after_an_error_the_next_one_loads() -> None:
    with pytest.raises(UserError):
        load(["hydra.nonsense=1"])
    assert load([]).recipe.name == "pocket_whisper"


def test_no_recipe_and_no_level_are_told() -> None:
    with pytest.raises(UserError, match="no recipe is chosen"):
        load(["~recipe"])
    with pytest.raises(UserError, match="the key 'level' is missing"):
        load(["~level"])


def test_a_table_without_origin_names_the_configuration() -> None:
    table = {"recipe": {"name": "x"}, "unknown": 1}
    with pytest.raises(UserError, match="there is no key 'unknown'") as caught:
        from_table(table)
    assert caught.value.where == "configuration"
    with pytest.raises(UserError, match="no key 'fuze'") as nowhere:
        from_table({"recipe": {"name": "not a file", "fuze": 1}})
    assert nowhere.value.where == "configuration: recipe"


# sweeps


def values(key: str, batches: list[list[str]]) -> list[str]:
    return [line.partition("=")[2] for batch in batches for line in batch if line.startswith(f"{key}=")]


def test_without_a_sweep_there_is_one_variant() -> None:
    assert expand(["level=HIGH", "seed=1"], sweep=False) == [["level=HIGH", "seed=1"]]
    assert expand([], sweep=False) == [[]]
    assert expand(["level=HIGH"], sweep=True) == [["level=HIGH"]]


def test_a_sweep_is_the_product_of_its_values() -> None:
    found = expand(["level=NONE,HIGH", "decoder=basic,kv_cache", "seed=3"], sweep=True)
    assert len(found) == 4
    assert all("seed=3" in batch for batch in found)
    assert values("level", found) == ["NONE", "NONE", "HIGH", "HIGH"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("level=glob(*)", sorted(LEVELS)),
        ("level=glob(H*)", ["HIGH"]),
        ("level=choice(NONE,HIGH)", ["NONE", "HIGH"]),
    ],
)
def test_hydras_functions_work(line: str, wanted: list[str]) -> None:
    assert values("level", expand([line], sweep=True)) == wanted


def test_an_experiment_is_a_sweep_of_its_own() -> None:
    assert values("level", expand(["experiment=levels"], sweep=False)) == list(LEVELS)
    assert values("level", expand(["experiment=levels", "seed=1"], sweep=True)) == list(LEVELS)
    for name in groups.choices("experiment"):
        for lines in expand([f"experiment={name}"], sweep=False):
            load(lines)


def test_the_command_line_wins_over_the_experiment() -> None:
    assert values("level", expand(["experiment=levels", "level=HIGH"], sweep=False)) == ["HIGH"]


def test_what_does_not_vary_is_handed_on_as_it_was_typed() -> None:
    fixed = ["recipe.model.path=~/x", "~nodes.fuse", "nodes.x.params.a=[1,2]"]
    found = expand([*fixed, "level=NONE,HIGH"], sweep=True)
    assert found == [[*fixed, "level=NONE"], [*fixed, "level=HIGH"]]


def test_every_override_stays_in_its_place() -> None:
    found = expand(["nodes.a.params.x=1,2", "seed=3", "nodes.b.pass=fuse"], sweep=True)
    assert found[0] == ["nodes.a.params.x=1", "seed=3", "nodes.b.pass=fuse"]


def test_the_launcher_is_the_chosen_one() -> None:
    assert launcher([]) == launcher(["level=NONE", "hydra.mode=MULTIRUN"]) == BASIC
    assert launcher(["hydra/launcher=joblib", "level=NONE"]) == "joblib"
    with pytest.raises(UserError, match="Could not find 'hydra/launcher/joblip'"):
        launcher(["hydra/launcher=joblip"])


def test_an_experiment_may_choose_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "parallel.yaml"
    file.write_text("defaults: [{override /hydra/launcher: joblib}]\nhydra: {mode: MULTIRUN}\n")
    shipped = groups.choices
    more = {"experiment": {"parallel": file}}
    monkeypatch.setattr(groups, "choices", lambda group: {**shipped(group), **more.get(group, {})})
    assert launcher(["experiment=parallel", "seed=1"]) == "joblib"


def test_hydras_mode_makes_a_sweep() -> None:
    assert len(expand(["hydra.mode=MULTIRUN", "level=NONE,HIGH"], sweep=False)) == 2


def test_every_variant_of_a_sweep_loads() -> None:
    batches = expand(["level=NONE,HIGH", "~nodes.quality", "nodes.x.params.a=[1,2]"], sweep=True)
    assert [load(lines).nodes["quality"] for lines in batches] == [{"enabled": False}] * 2


def test_a_sweep_over_recipe_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE)
    found = expand([f"recipe={tmp_path}/a.yaml,{tmp_path}/b.yaml"], sweep=True)
    assert [load(lines).recipe.name for lines in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("level=NONE,HIHG", "there is no level 'HIHG'"),
        ("seed=1,{2", "the value cannot be read"),
        ("seed=interval(0,1)", "does not support sweep type"),
        ("experiment=levls", "there is no experiment 'levls'"),
        ("sede=1,2", "there is no key 'sede', did you mean 'seed'?"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_error_of_ours(line: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        expand([line], sweep=True)
    assert what in caught.value.what
