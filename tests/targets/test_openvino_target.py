"""The OpenVINO target: which passes realise the intents of the levels, and what is said before it can run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pocket_opt import targets
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant

CHAIN = ["export", "convert", "weights", "fp16"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("BASIC", ["export", "convert"]),
        ("MEDIUM", ["export", "convert", "fp16"]),
        ("HIGH", CHAIN),
        ("EXTREME", CHAIN),
        ("NONE", []),
    ],
)
def test_the_graph_of_each_level(level: str, expected: list[str]) -> None:
    found = plan(f"level={level}")
    builds = [node.name for node in found.graph if node.kind == "build"]
    assert [name for name in builds if name not in ("source", "student")] == expected
    for name in set(CHAIN) - set(expected):
        assert found.off[name]


def test_bits_follow_the_intent() -> None:
    assert plan("level=HIGH").graph["weights"].params["bits"] == 8
    assert plan("level=EXTREME").graph["weights"].params["bits"] == 4


def test_the_precision_can_be_changed() -> None:
    found = plan("level=BASIC", "nodes.convert.params.precision=default")
    assert found.graph["convert"].params["precision"] == "default"


def test_without_the_extra_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = targets.version

    def version(name: str) -> str:
        if name == "nncf":
            raise PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(targets, "version", version)
    with pytest.raises(
        UserError, match=r"(?s)target 'openvino' needs nncf.*pip install 'pocket_opt\[openvino\]'"
    ):
        plan("level=HIGH")
    assert plan("level=NONE").result == "source"


@pytest.mark.parametrize("decoder", ["static", "all_in_one"])
def test_decoders_of_other_targets_are_refused(decoder: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)decoder={decoder}.*kv_cache, basic"):
        plan("level=BASIC", f"decoder={decoder}")


def plan(*lines: str) -> Plan:
    given = ("recipe=pocket_whisper", "target=openvino", *lines)
    return plan_variant(load(given), given)
