"""What stands on the command line: checked against the schema before anything is composed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.config.overrides import check, origin, row_overrides
from pocket_opt.errors import UserError


def lines(*given: str, sweep: bool = False) -> tuple[str, ...]:
    return check(given, sweep=sweep).lines


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("level=NONE", "level=NONE"),
        ("+level=NONE", "level=NONE"),
        ("seed=3", "++seed=3"),
        ("+seed=3", "++seed=3"),
        ("++seed=3", "++seed=3"),
        ("recipe.model.path=/a b/c", "++recipe.model.path='/a b/c'"),
        ("recipe.budget.HIGH.wer_delta=2", "++recipe.budget.HIGH.wer_delta=2"),
        ("recipe.model.architecture.heads=4", "++recipe.model.architecture.heads=4"),
        ("recipe.student.path=x", "++recipe.student.path='x'"),
        ("nodes.x.params.exclude=[a,b]", "++nodes.x.params.exclude=[a,b]"),
        ("nodes.x.params={a: 1, b: 2}", "++nodes.x.params={a: 1, b: 2}"),
        ("recipe.summary='a, b'", "++recipe.summary='a, b'"),
        ("recipe.model.path=~/a(b)=it's", "++recipe.model.path='~/a(b)=it\\'s'"),
        ("recipe.model.path=null", "++recipe.model.path=null"),
        ("output_dir=${oc.env:HOME}/x", "++output_dir=${oc.env:HOME}/x"),
        ("~nodes.fuse", "++nodes.fuse.enabled=false"),
        ("~nodes.fuse=null", "++nodes.fuse.enabled=false"),
        ("~nodes.baseline", "++nodes.baseline.enabled=false"),
        ("~nodes.baseline.latency", "++nodes.baseline.latency.enabled=false"),
        ("~data.evaluation.path", "++data.evaluation.path=null"),
        ("~nodes.fuse.params.x", "++nodes.fuse.params.x=null"),
        ("~recipe", "~recipe"),
        ("experiment=null", "experiment=null"),
        ("hydra.mode=RUN", "hydra.mode=RUN"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib"),
    ],
)
def test_overrides_are_taken_in_the_form_of_hydra(given: str, taken: str) -> None:
    assert lines(given) == (taken,)


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ("level=HIHG", "there is no level 'HIHG', did you mean 'HIGH'?", "write HIGH"),
        ("level=high", "there is no level 'high', did you mean 'HIGH'?", "write HIGH"),
        ("level=null", "there is no level 'null'", "choose one of the allowed names"),
        ("level=", "there is no level ''", "choose one of the allowed names"),
        (
            "recipe=whisper_tyni",
            "there is no recipe 'whisper_tyni', did you mean 'whisper_tiny'?",
            "write whisper_tiny",
        ),
        ("target=cup", "there is no target 'cup', did you mean 'cpu'?", "write cpu"),
        ("decoder=kvcache", "there is no decoder 'kvcache', did you mean 'kv_cache'?", "write kv_cache"),
        ("decoding=greddy", "there is no decoding 'greddy', did you mean 'greedy'?", "write greedy"),
        ("tracking=mlfow", "there is no tracking 'mlfow', did you mean 'mlflow'?", "write mlflow"),
        ("experiment=levls", "there is no experiment 'levls', did you mean 'levels'?", "write levels"),
        ("levle=HIGH", "there is no key 'levle', did you mean 'level'?", "write level"),
        ("ouput_dir=x", "there is no key 'ouput_dir', did you mean 'output_dir'?", "write output_dir"),
        (
            "recipe.model.pth=x",
            "there is no key 'recipe.model.pth', did you mean 'recipe.model.path'?",
            "recipe.model.path",
        ),
        (
            "data.evalation.path=x",
            "no key 'data.evalation', did you mean 'data.evaluation'?",
            "write data.evaluation",
        ),
        ("recipe.student.pth=x", "did you mean 'recipe.student.path'?", "write recipe.student.path"),
        ("recipe.budget.HIHG.wer=1", "did you mean 'recipe.budget.HIGH'?", "write recipe.budget.HIGH"),
        (
            "level.intents.wieghts=int8",
            "did you mean 'level.intents.weights'?",
            "write level.intents.weights",
        ),
        ("~nodse.fuse", "there is no key 'nodse', did you mean 'nodes'?", "write nodes"),
        ("seed.x=1", "'seed' is a value and has no key 'x'", ""),
        ("=1", "there is no key ''", "choose"),
        ("level@x=HIGH", "there is no key 'level@x', did you mean 'level'?", "write level"),
        ("--verbose", "'--verbose' is neither a verb nor an override", "see --help"),
        ("level", "'level' is neither a verb nor an override", "see --help"),
        ("level=HIGH,NONE", "'level=HIGH,NONE' gives several values", "add -m to run a sweep over them"),
        ("seed=1,2", "'seed=1,2' gives several values", "add -m"),
        ("seed=range(1,3)", "gives several values", "add -m"),
    ],
)
def test_a_mistake_ends_with_its_origin_and_the_nearest_name(given: str, what: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        lines("seed=1", given)
    assert what in caught.value.what
    assert "command line" in caught.value.where
    assert fix in caught.value.fix
    assert given in str(caught.value)


def test_a_sweep_may_give_several_values() -> None:
    assert lines("level=NONE,HIGH", "seed=1,2", sweep=True) == ("level=NONE,HIGH", "++seed=1,2")
    assert lines("level=glob(H*)", sweep=True) == ("level=glob(H*)",)
    assert lines("level=choice(NONE,HIGH)", sweep=True) == ("level=choice(NONE,HIGH)",)
    with pytest.raises(UserError, match="there is no level 'HIHG'"):
        lines("level=NONE,HIHG", sweep=True)


def test_a_recipe_file_is_taken_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("family: whisper\n")
    found = check([f"recipe={path}"], sweep=False)
    assert found.lines == ("recipe=file-65fdd501",)
    assert found.recipe_files == {"file-65fdd501": path}
    last = check([f"recipe={path}", "recipe=whisper_tiny"], sweep=False)
    assert last.recipe_files == {}
    assert last.lines[-1] == "recipe=whisper_tiny"


def test_a_sweep_over_recipe_files_checks_each(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("family: whisper\n")
    with pytest.raises(UserError, match=f"there is no recipe file {second}"):
        lines(f"recipe={first},{second}", sweep=True)
    second.write_text("license: MIT\n")
    found = check([f"recipe={first}, {second},whisper_tiny"], sweep=True)
    assert list(found.recipe_files.values()) == [first, second]
    assert found.lines == (f"recipe={','.join(found.recipe_files)},whisper_tiny",)


def test_a_recipe_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no recipe file") as caught:
        lines(f"recipe={tmp_path / 'none.yaml'}")
    assert "pocket_whisper" in caught.value.allowed
    with pytest.raises(UserError, match="there is no recipe file"):
        lines(f"recipe={tmp_path}/")


def test_a_row_is_what_the_user_set_beyond_recipe_target_and_level() -> None:
    given = [
        "recipe=whisper_tiny",
        "level=HIGH",
        "target=cpu",
        "output_dir=/x",
        "tracking=none",
        "tracking.uri=sqlite:///x",
        "timeout_s=5",
        "fail_fast=true",
        "experiment=levels",
        "hydra.mode=MULTIRUN",
        "hydra/launcher=joblib",
    ]
    assert row_overrides(given) == ()
    own = [
        "decoder=basic",
        "+seed=3",
        "recipe.model.path=/m",
        "target.threads=2",
        "level.intents.student=true",
    ]
    assert row_overrides([*given, *own]) == (
        "decoder=basic",
        "level.intents.student=true",
        "recipe.model.path=/m",
        "seed=3",
        "target.threads=2",
    )


def test_a_recipe_file_names_the_row_by_its_content(tmp_path: Path) -> None:
    files = [tmp_path / folder / "mine.yaml" for folder in "abc"]
    for path, content in zip(files, ("license: MIT\n", "license: other\n", "license: MIT\n"), strict=True):
        path.parent.mkdir()
        path.write_text(content)
    rows = [row_overrides([f"recipe={path}", "seed=1"]) for path in files]
    assert rows[0] == rows[2] == ("recipe=file-d949dffa", "seed=1")
    assert rows[1] != rows[0]
    assert row_overrides(rows[0]) == rows[0]
    assert row_overrides([f"recipe={files[0]}", "recipe=whisper_tiny"]) == ()


def test_the_order_in_which_nodes_are_changed_is_part_of_the_row() -> None:
    b, a = "nodes.b.pass=fuse", "nodes.a.pass=fuse"
    assert row_overrides(["seed=1", b, "decoder=basic", a, "~nodes.x"]) == (
        "decoder=basic",
        b,
        a,
        "seed=1",
        "~nodes.x",
    )
    assert row_overrides([a, b]) != row_overrides([b, a])
    assert row_overrides(row_overrides(["seed=1", b, a])) == row_overrides(["seed=1", b, a])
    assert row_overrides(["~nodes.b", "~nodes.a"]) == row_overrides(["~nodes.a", "~nodes.b"])


@pytest.mark.parametrize("group", sorted(set(groups.GROUPS) - {"experiment"}))
def test_the_name_of_a_choice_is_not_set(group: str) -> None:
    name = next(iter(groups.choices(group)))
    for line in (f"{group}.name={name}", f"+{group}.name={name}"):
        with pytest.raises(UserError, match=f"the name of a {group} is not set") as caught:
            lines(line)
        assert caught.value.where == f"command line: {line}"
        assert caught.value.fix == f"write {group}={name}"
    with pytest.raises(UserError, match=f"there is no {group} '../../x'"):
        lines(f"{group}.name=../../x")


@pytest.mark.parametrize("path", ["~/x", "/a(b)", "it's", "C:\\x\\", "\\'", "'", "a=b"])
def test_a_row_is_the_same_in_quotes(path: str) -> None:
    typed = f"recipe.model.path={path}"
    assert row_overrides(lines(typed)) == row_overrides([typed]) == (typed,)


def test_a_row_does_not_depend_on_order_signs_or_what_was_overruled() -> None:
    assert row_overrides(["seed=1", "decoder=basic"]) == row_overrides(
        ["++decoder=basic", "seed=2", "+seed=1"]
    )
    for spelling in (
        "~nodes.fuse",
        "~nodes.fuse=null",
        "nodes.fuse.enabled=false",
        "++nodes.fuse.enabled=False",
    ):
        assert row_overrides([spelling]) == ("~nodes.fuse",)
    for spelling in ("~nodes.baseline", "nodes.baseline.enabled=false"):
        assert row_overrides([spelling]) == ("~nodes.baseline",)
    assert row_overrides(["nodes.baseline.latency.enabled=false"]) == ("~nodes.baseline.latency",)
    assert row_overrides(["nodes={fuse: {enabled: false}}"]) == ("nodes={fuse: {enabled: false}}",)
    assert row_overrides(["~nodes"]) == ("nodes=null",)
    assert row_overrides(["nodes.fuse.enabled=true"]) == ("nodes.fuse.enabled=true",)
    assert row_overrides(["~data.evaluation.path"]) == row_overrides(["data.evaluation.path=null"])
    assert row_overrides(["decoding.timestamps=True"]) == ("decoding.timestamps=true",)


def test_the_origin_of_a_key_is_the_last_override_that_sets_it() -> None:
    given = ["level=HIGH", "recipe.model={path: x}", "seed=1", "seed=2", "~timeout_s"]
    assert origin("seed", given) == "command line: seed=2"
    assert origin("recipe.model.path", given) == "command line: recipe.model={path: x}"
    assert origin("timeout_s", given) == "command line: ~timeout_s"
    assert origin("level.rank", given) is None
    assert origin("seedling", given) is None


def test_an_experiment_names_the_row_if_it_sets_more_than_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "german.yaml"
    monkeypatch.setattr(groups, "choices", lambda group: {"german": file})
    file.write_text("hydra: {mode: MULTIRUN}\n")
    assert row_overrides(["experiment=german"]) == ()
    file.write_text("decoding: {language: de}\nhydra: {mode: MULTIRUN}\n")
    assert row_overrides(["experiment=german", "level=HIGH"]) == ("experiment=german",)
