"""ExecuTorch for Qualcomm's NPUs: what each level asks of the pass, which chips there are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocket_opt.config import groups
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.targets import load_target


@pytest.mark.parametrize(
    ("level", "precision"), [("BASIC", "fp16"), ("MEDIUM", "fp16"), ("HIGH", "16a8w"), ("EXTREME", "16a8w")]
)
def test_numbers_follow_the_level(level: str, precision: str) -> None:
    params = plan(f"level={level}").graph["program"].params
    assert params["precision"] == precision
    assert (params["chip"], params["soc_model"]) == ("SM8750", 69)
    assert bool(params["calibration_digest"]) == (precision != "fp16")


def test_nothing_is_built_where_the_source_is_kept() -> None:
    assert "program" not in [node.name for node in plan("level=NONE", "target.soc=sd888").graph]


def test_a_chip_is_named_as_the_target_that_describes_it() -> None:
    params = plan("level=HIGH", "target.soc=sd8gen3").graph["program"].params
    assert (params["chip"], params["soc_model"]) == ("SM8650", 57)
    assert plan("level=HIGH", "target.soc=snapdragon").build_key == plan("level=HIGH").build_key
    own = "target.soc={chip: SM8850, soc_model: 87, htp_arch: 81, vtcm_mb: 8}"
    assert plan("level=HIGH", own).graph["program"].params["soc_model"] == 87


def test_a_snapdragon_may_be_named_so_too() -> None:
    assert load_target("sd8elite", "sd8gen2").soc.chip == "SM8550"  # type: ignore[attr-defined]


def test_nothing_of_a_simulator_is_timed() -> None:
    off = plan("level=HIGH").off
    assert {"latency", "memory", "profile"} <= off.keys()
    assert "quality" in [node.name for node in plan("level=HIGH").graph]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("level=BASIC", "decoder=basic"), "kv_cache, static"),
        (("level=HIGH", "audio_context=auto"), "audio_context=full"),
        (("level=MEDIUM", "target.soc=sd888"), "computes no floats"),
        (("level=HIGH", "target.soc=sd8gen33"), "did you mean 'sd8gen3'"),
        (("level=HIGH", "target.soc=null"), "the compiler needs the chip"),
        (("level=HIGH", "target.soc={chip: SM8650}"), "'soc_model' is missing"),
        (("level=HIGH", "target.soc.vtcm_mb=4"), "'chip' is missing"),
        (("level=HIGH", "device=aihub:Some phone"), "AI Hub runs context binaries"),
        (("level=HIGH", "target.soc={chip: X, soc_model: 69, htp_arch: 75, vtcm_mb: 8}"), "whose NPU is v79"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){told}"):
        plan(*asked)


def test_a_choice_of_the_users_own_names_a_chip_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKET_OPT_TARGETS", str(tmp_path))
    groups.choices.cache_clear()
    (tmp_path / "et_qnn.yaml").write_text("name: et_qnn\n")
    with pytest.raises(UserError, match="needs a chip"):
        load_target("et_qnn")
    groups.choices.cache_clear()


def test_other_targets_take_no_chip() -> None:
    with pytest.raises(UserError, match="is no Qualcomm chip"):
        load_target("et_xnnpack", "sd8elite")


def plan(*lines: str) -> Plan:
    given = ("recipe=pocket_whisper", "target=et_qnn", *lines)
    return plan_variant(load(given), given)
