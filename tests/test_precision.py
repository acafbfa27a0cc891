"""Overrides by layer: read from tables and files, the last that matches counts, mistakes are told with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.artifact import Artifact
from pocket_opt.errors import UserError
from pocket_opt.precision import Rule, combined, file_rules, read_rules, rule_for, searched, with_rules


def test_the_last_rule_that_matches_one_of_the_names_counts_as_a_whole() -> None:
    rules = read_rules(
        {"*.fc?": {"bits": 4, "symmetric": False}, "*.fc1": {"bits": 8}, "*/x": {"bits": "none"}}, where=""
    )
    assert rule_for(["a.fc1/MatMul", "a.fc1"], rules) == Rule("*.fc1", bits=8)
    assert rule_for(["a.fc2"], rules) == Rule("*.fc?", bits=4, symmetric=False)
    assert rule_for(["a.fc1/x", "a.fc1"], rules) == Rule("*/x", bits="none")
    assert rule_for(["a.q_proj"], rules) is None


def test_a_file_comes_before_what_a_node_says(tmp_path: Path) -> None:
    file = tmp_path / "o.json"
    file.write_text('{"*": {"bits": 8}}')
    found = combined(file_rules(str(file)), {"a": {"bits": 4}}, where="x")
    assert [rule["pattern"] for rule in found] == ["*", "a"]
    assert combined([], found, where="x") == found
    assert file_rules(None) == []


def test_the_rules_of_a_search_travel_in_the_artifact(tmp_path: Path) -> None:
    bare = Artifact(tmp_path, {})
    assert searched(bare) == []
    assert searched(with_rules(bare, "a.fc1: {bits: 4}\n")) == [Rule("a.fc1", bits=4)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": {"bitz": 4}}, "no key 'bitz', did you mean 'bits'"),
        ({"a": {"bits": 3}}, "'3' .* stands where one of 2, 4, 8, none"),
        ({"a": 4}, "'4' says no precision"),
        ({"a": {}}, "says nothing"),
        ({"a": {"bits": "none", "block_size": 32}}, "leaves the layers float and sets how"),
        ({"a": {"bits": 2, "activations": "dynamic"}}, "dynamic activations, which take weights of 8 or 4"),
        ({"a": {"algorithm": "hqq"}}, "without symmetric: false"),
        ("a", "'a' is no table of overrides"),
    ],
)
def test_mistakes_are_told(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rules(data, where="place")


@pytest.mark.parametrize("text", [None, "a: {", "- 1"])
def test_a_file_that_is_none_is_told_with_its_path(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "o.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        file_rules(str(file))
    assert str(file) in caught.value.where
