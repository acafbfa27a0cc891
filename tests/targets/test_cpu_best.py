"""cpu_best: both chains from the source on, what each loses, a race, a choice, and a row that says what was chosen."""

from __future__ import annotations

import pytest

from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.report.rows import _target

MODELS = {"first": "cpu_fp16", "second": "openvino_fp16"}
MEASURED = {
    "first_quality": "cpu_quality",
    "first_degradation": "cpu_degradation",
    "second_quality": "openvino_quality",
    "second_degradation": "openvino_degradation",
}


def test_both_chains_begin_at_the_source_and_end_in_a_race() -> None:
    found = plan("level=HIGH")
    graph = found.graph
    assert found.result == "choose"
    assert graph["cpu_export"].inputs == graph["openvino_export"].inputs == {"model": "source"}
    assert graph["race"].inputs == MODELS
    assert graph["choose"].inputs == {**MODELS, "race": "race", **MEASURED}
    assert graph["cpu_degradation"].inputs == {"quality": "cpu_quality", "baseline": "baseline.quality"}
    assert graph["latency"].inputs == {"model": "choose"}
    assert graph["race"].kind == graph["openvino_quality"].kind == "measure"
    assert graph["race"].host


def test_the_budget_enters_the_choice() -> None:
    found = plan("level=HIGH")
    assert found.graph["choose"].params == {"budget": {"wer_delta": 1.0}}
    stricter = plan("level=HIGH", "budget.wer_delta=0.5")
    changed = {name for name, key in found.keys.items() if stricter.keys[name] != key}
    assert "choose" in changed
    assert changed.isdisjoint({"race", *MEASURED.values(), "cpu_fp16", "openvino_fp16"})
    with pytest.raises(UserError, match=r"(?s)'budget' is worked out when planning.*set budget"):
        plan("level=HIGH", "nodes.choose.params.budget={wer_delta: 1}")


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("recipe=whisper_tiny recipe.model.weights=random", {}),
        ("~nodes.quality", {}),
        ("~nodes.degradation", {edge: node for edge, node in MEASURED.items() if "quality" in edge}),
        ("~nodes.baseline.quality", {edge: node for edge, node in MEASURED.items() if "quality" in edge}),
        ("~nodes.cpu_quality", {edge: node for edge, node in MEASURED.items() if "second" in edge}),
    ],
)
def test_what_is_not_measured_is_not_weighed(line: str, left: dict[str, str]) -> None:
    found = plan("level=HIGH", *line.split())
    assert found.graph["choose"].inputs == {**MODELS, "race": "race", **left}
    off = set(MEASURED.values()) - set(left.values())
    assert not [name for name in off if name in found.graph]
    assert off <= set(found.off)


def test_settings_of_quality_and_race_are_taken() -> None:
    found = plan("level=HIGH", "nodes.quality.params.limit=5", "nodes.race.params.max_seconds=3")
    assert found.graph["cpu_quality"].params["limit"] == found.graph["quality"].params["limit"] == 5
    assert found.graph["race"].params["max_seconds"] == 3


def test_there_is_no_choice_without_a_race() -> None:
    with pytest.raises(UserError, match=r"(?s)'choose' cannot do without 'race'.*switched off by you"):
        plan("level=HIGH", "~nodes.race")


def test_what_both_need_is_made_once() -> None:
    keys = plan("level=BASIC").keys
    assert keys["cpu_export"] == keys["openvino_export"]
    assert keys["cpu_fuse"] == plan_of("cpu", "level=BASIC").keys["fuse"]
    assert keys["cpu_quality"] == plan_of("cpu", "level=BASIC").keys["quality"]
    assert keys["openvino_convert"] == plan_of("openvino", "level=BASIC").keys["convert"]


def test_a_student_is_where_both_begin() -> None:
    graph = plan("level=EXTREME").graph
    assert graph["cpu_export"].inputs == graph["openvino_export"].inputs == {"model": "student"}


def test_none_is_the_source() -> None:
    found = plan("level=NONE")
    assert found.result == "source"
    assert not set(MEASURED.values()) & {node.name for node in found.graph}


def test_the_row_says_what_was_chosen() -> None:
    manifest = {"target": "cpu_best", "metadata": {"chosen": {"runtime": "openvino"}}}
    assert _target(manifest) == "cpu_best (openvino)"
    assert _target({"target": "cpu", "metadata": {}}) == "cpu"


def plan(*lines: str) -> Plan:
    return plan_of("cpu_best", *lines)


def plan_of(target: str, *lines: str) -> Plan:
    given = (f"target={target}", *lines)
    return plan_variant(load(given), given)
