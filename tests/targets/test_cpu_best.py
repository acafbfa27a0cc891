"""cpu_best: both chains from the source on, a race, a choice, and a row that says what was chosen."""

from __future__ import annotations

from pocket_opt.config.loading import load
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.report.rows import _target


def test_both_chains_begin_at_the_source_and_end_in_a_race() -> None:
    found = plan("level=HIGH")
    graph = found.graph
    assert found.result == "choose"
    assert graph["cpu_export"].inputs == graph["openvino_export"].inputs == {"model": "source"}
    assert graph["race"].inputs == {"first": "cpu_fp16", "second": "openvino_fp16"}
    assert graph["choose"].inputs == {"first": "cpu_fp16", "second": "openvino_fp16", "race": "race"}
    assert graph["latency"].inputs == {"model": "choose"}
    assert graph["race"].kind == "measure"
    assert graph["race"].host


def test_what_both_need_is_made_once() -> None:
    keys = plan("level=BASIC").keys
    assert keys["cpu_export"] == keys["openvino_export"]
    assert keys["cpu_fuse"] == plan_of("cpu", "level=BASIC").keys["fuse"]
    assert keys["openvino_convert"] == plan_of("openvino", "level=BASIC").keys["convert"]


def test_a_student_is_where_both_begin() -> None:
    graph = plan("level=EXTREME").graph
    assert graph["cpu_export"].inputs == graph["openvino_export"].inputs == {"model": "student"}


def test_none_is_the_source() -> None:
    assert plan("level=NONE").result == "source"


def test_the_row_says_what_was_chosen() -> None:
    manifest = {"target": "cpu_best", "metadata": {"chosen": {"runtime": "openvino"}}}
    assert _target(manifest) == "cpu_best (openvino)"
    assert _target({"target": "cpu", "metadata": {}}) == "cpu"


def plan(*lines: str) -> Plan:
    return plan_of("cpu_best", *lines)


def plan_of(target: str, *lines: str) -> Plan:
    given = ("recipe=pocket_whisper", f"target={target}", *lines)
    return plan_variant(load(given), given)
