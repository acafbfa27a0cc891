"""Nodes added, changed and removed by the user."""

from __future__ import annotations

from typing import Any

import pytest

from pocket_opt.errors import UserError
from pocket_opt.graph_edits import Draft, apply_edits, read_edits

pytestmark = pytest.mark.usefixtures("fake_passes")


def chain() -> list[Draft]:
    return [
        Draft("source", "fake_source", {}, {}, "the model"),
        Draft("first", "fake_add", {"amount": 1.0}, {"model": "source"}, "asked for"),
        Draft("second", "fake_add", {"amount": 2.0}, {"model": "first"}, "asked for"),
    ]


def edit(edits: dict[str, Any], **known: Any) -> tuple[dict[str, Draft], str, dict[str, str]]:
    drafts, result, removed = apply_edits(chain(), edits, result="second", **known)
    return {draft.name: draft for draft in drafts}, result, removed


def test_no_edits_leave_everything() -> None:
    drafts, result, removed = apply_edits(chain(), {}, result="second")
    assert (drafts, result, removed) == (chain(), "second", {})


def test_a_parameter_is_changed_and_the_others_stay() -> None:
    drafts, result, _ = edit({"first": {"params": {"sleep_s": 0.5}}})
    assert drafts["first"].params == {"amount": 1.0, "sleep_s": 0.5}
    assert drafts["first"].why == "changed by you"
    assert drafts["second"].why == "asked for"
    assert result == "second"


def test_another_pass_begins_with_its_own_parameters() -> None:
    drafts, _, _ = edit({"first": {"pass": "fake_difference", "inputs": {"other": "source"}}})
    assert drafts["first"].pass_name == "fake_difference"
    assert drafts["first"].params == {}
    assert drafts["first"].inputs == {"model": "source", "other": "source"}


def test_a_node_in_the_middle_is_removed_and_the_chain_closed() -> None:
    drafts, result, removed = edit({"first": {"enabled": False}})
    assert list(drafts) == ["source", "second"]
    assert drafts["second"].inputs == {"model": "source"}
    assert (result, removed) == ("second", {"first": "switched off by you"})


def test_the_last_node_is_removed_and_the_one_before_is_the_result() -> None:
    drafts, result, _ = edit({"second": {"enabled": False}})
    assert list(drafts) == ["source", "first"]
    assert result == "first"


def test_where_the_graph_begins_cannot_be_removed() -> None:
    with pytest.raises(UserError, match="'source' is where the graph begins"):
        edit({"source": {"enabled": False}})


def test_a_node_is_added_at_the_end_and_becomes_the_result() -> None:
    drafts, result, _ = edit({"third": {"pass": "fake_add", "params": {"amount": 3.0}}})
    assert list(drafts)[-1] == result == "third"
    assert drafts["third"].inputs == {"model": "second"}
    assert drafts["third"].why == "added by you"


def test_a_node_is_added_in_the_middle() -> None:
    drafts, result, _ = edit({"between": {"pass": "fake_add", "after": "first"}})
    assert list(drafts) == ["source", "first", "between", "second"]
    assert drafts["between"].inputs == {"model": "first"}
    assert drafts["second"].inputs == {"model": "between"}
    assert result == "second"


def test_several_edits_build_on_one_another() -> None:
    edits = {
        "first": {"enabled": False},
        "a": {"pass": "fake_add", "after": "source"},
        "b": {"pass": "fake_add", "after": "a"},
    }
    drafts, _, _ = edit(edits)
    assert [draft.inputs.get("model") for draft in drafts.values()] == [None, "source", "a", "b"]


def test_inputs_of_an_added_node_can_be_named() -> None:
    drafts, _, _ = edit({"d": {"pass": "fake_difference", "inputs": {"model": "second", "other": "first"}}})
    assert drafts["d"].inputs == {"model": "second", "other": "first"}


def test_a_node_is_moved_behind_another() -> None:
    drafts, result, _ = edit({"first": {"after": "second", "params": {"sleep_s": 0.1}}})
    assert list(drafts) == ["source", "second", "first"]
    assert drafts["second"].inputs == {"model": "source"}
    assert drafts["first"].inputs == {"model": "second"}
    assert drafts["first"].params == {"amount": 1.0, "sleep_s": 0.1}
    assert result == "first"
    drafts, result, _ = edit({"second": {"after": "source"}})
    assert list(drafts) == ["source", "second", "first"]
    assert drafts["first"].inputs == {"model": "second"}
    assert result == "first"


def test_an_added_measurement_changes_nothing_else() -> None:
    drafts, result, _ = edit({"check": {"pass": "fake_number", "after": "first"}})
    assert drafts["check"].inputs == {"model": "first"}
    assert drafts["second"].inputs == {"model": "first"}
    assert result == "second"
    drafts, result, _ = edit({"check": {"pass": "fake_number"}})
    assert drafts["check"].inputs == {"model": "second"}
    assert result == "second"


def test_an_added_node_that_is_switched_off_is_not_there() -> None:
    drafts, _, _ = edit({"third": {"pass": "fake_add", "enabled": False}})
    assert "third" not in drafts


@pytest.mark.parametrize("name", ["quality", "baseline.latency"])
def test_measurements_are_left_to_the_planner(name: str) -> None:
    drafts, result, removed = edit({name: {"enabled": False}})
    assert list(drafts) == ["source", "first", "second"]
    assert (result, removed) == ("second", {})


def test_a_node_of_the_baseline_is_meant_also_in_the_spelling_of_the_command_line() -> None:
    drafts, _, _ = edit({"baseline": {"latency": {"enabled": False}}})
    assert list(drafts) == ["source", "first", "second"]


def test_the_whole_baseline_is_switched_off_but_what_says_otherwise() -> None:
    found = read_edits({"baseline": {"enabled": False, "latency": {"params": {"runs": 3}}}})
    assert {name for name, one in found.items() if not one.enabled} == set(found)
    assert {"baseline.quality", "baseline.memory", "baseline.latency"} <= set(found)
    assert found["baseline.latency"].params == {"runs": 3}
    found = read_edits({"baseline": {"enabled": False, "quality": {"enabled": True}}})
    assert found["baseline.quality"].enabled
    assert not found["baseline.latency"].enabled
    with pytest.raises(UserError, match="'3' .int. stands where a table of keys is expected"):
        read_edits({"baseline": {"enabled": False, "quality": 3}})


@pytest.mark.parametrize(
    "change", [{"pass": "fake_number"}, {"after": "first"}, {"inputs": {"model": "first"}}]
)
def test_a_measurement_keeps_its_pass_and_its_place(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="'quality' is a measurement") as caught:
        edit({"quality": change})
    assert "params" in caught.value.allowed


def test_a_node_that_is_off_can_be_switched_off_but_not_changed() -> None:
    off = {"fp16": "this level asks for no 16-bit storage"}
    drafts, _, removed = edit({"fp16": {"enabled": False}}, off=off)
    assert list(drafts) == ["source", "first", "second"]
    assert removed == {}
    with pytest.raises(UserError, match="the node 'fp16' is off: this level asks for no 16-bit storage"):
        edit({"fp16": {"params": {"x": 1}}}, off=off)
    drafts, result, _ = edit({"fp16": {"pass": "fake_add"}}, off=off)
    assert result == "fp16"


@pytest.mark.parametrize(
    ("edits", "message", "where"),
    [
        ({"frist": {"params": {"amount": 1}}}, "no node 'frist', did you mean 'first'", "nodes.frist"),
        ({"frist": {"enabled": False}}, "no node 'frist', did you mean 'first'", "nodes.frist"),
        ({"qualty": {"enabled": False}}, "no node 'qualty', did you mean 'quality'", "nodes.qualty"),
        ({"x": {"pass": "fake_ad"}}, "no pass 'fake_ad', did you mean 'fake_add'", "nodes.x.pass"),
        (
            {"x": {"pass": "fake_add", "after": "frist"}},
            "no node 'frist', did you mean 'first'",
            "nodes.x.after",
        ),
        ({"first": {"parms": {}}}, "no key 'parms', did you mean 'params'", "nodes.first"),
        ({"first": {"passs": "x"}}, "no key 'passs', did you mean 'pass'", "nodes.first"),
        ({"first": {"pass_name": "x"}}, "no key 'pass_name', did you mean 'pass'", "nodes.first"),
        ({"first": {"enabled": "no"}}, "'no' .str. stands where true or false is expected", "nodes.first"),
        ({"first": 3}, "'3' .int. stands where a table of keys is expected", "nodes.first"),
        ({"first": None}, "nothing stands where a table of keys is expected", "nodes.first"),
        (
            {"baseline": {"latncy": {"enabled": False}}},
            "did you mean 'baseline.latency'",
            "nodes.baseline.latncy",
        ),
    ],
)
def test_a_mistake_ends_with_its_place_and_the_nearest_name(
    edits: dict[str, Any], message: str, where: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        edit(edits)
    assert where in caught.value.where
    assert "pass_name" not in caught.value.allowed
