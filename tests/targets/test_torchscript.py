"""The TorchScript target: one step, what each level asks of it, and what is said before it can run."""

from __future__ import annotations

import pytest

from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant


@pytest.mark.parametrize(
    ("level", "weights"), [("BASIC", "float32"), ("MEDIUM", "float16"), ("HIGH", "int8"), ("EXTREME", "int8")]
)
def test_weights_follow_the_level(level: str, weights: str) -> None:
    made = plan(f"level={level}")
    assert made.graph["program"].params["weights"] == weights
    assert "profile" in made.off


def test_where_a_level_asks_for_4_bits_the_plan_says_why_there_are_8() -> None:
    assert "no product with 4" in plan("level=EXTREME").graph["program"].why


def test_nothing_is_built_where_the_source_is_kept() -> None:
    made = plan("level=NONE")
    assert "program" not in [node.name for node in made.graph]
    assert "profile" not in made.off


def test_all_in_one_puts_the_loop_inside() -> None:
    assert plan("decoder=all_in_one").graph["program"].params["loop"]
    assert not plan("decoder=kv_cache").graph["program"].params["loop"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("decoder=basic", r"(?s)shapes of this program are fixed.*all_in_one"),
        ("audio_context=auto", "audio_context"),
        ("word_timestamps=true", "word_timestamps"),
        ("decoder=all_in_one decoder.audio=file", r"(?s)takes samples.*run\.py reads files"),
        ("decoder=all_in_one decoding=beam", r"(?s)follows one sequence.*decoder=kv_cache"),
    ],
)
def test_what_such_a_program_cannot_is_refused(asked: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(*asked.split())


def test_executorch_names_it_where_the_loop_is_asked_for() -> None:
    given = ("recipe=pocket_whisper", "target=et_xnnpack", "level=BASIC", "decoder=all_in_one")
    with pytest.raises(UserError, match=r"(?s)torch\.export refuses a decoding loop.*target=torchscript"):
        plan_variant(load(given), given)


def plan(*lines: str) -> Plan:
    given = ("recipe=pocket_whisper", "target=torchscript", "level=BASIC", *lines)
    return plan_variant(load(given), given)
