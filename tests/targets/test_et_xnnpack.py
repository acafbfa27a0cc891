"""The ExecuTorch target: one step, what each level asks of it, and what is said before it can run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pocket_opt import targets
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant


@pytest.mark.parametrize(
    ("level", "weights"), [("BASIC", "float32"), ("MEDIUM", "float16"), ("HIGH", "int8"), ("EXTREME", "int4")]
)
def test_weights_follow_the_level(level: str, weights: str) -> None:
    assert plan(f"level={level}").graph["program"].params["weights"] == weights


def test_nothing_is_built_where_the_source_is_kept() -> None:
    assert "program" not in [node.name for node in plan("level=NONE").graph]


@pytest.mark.parametrize("decoder", ["basic", "all_in_one"])
def test_decoders_of_other_targets_are_refused(decoder: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)decoder={decoder}.*kv_cache, static"):
        plan("level=BASIC", f"decoder={decoder}")


@pytest.mark.parametrize("asked", ["audio_context=auto", "word_timestamps=true"])
def test_what_fixed_shapes_exclude_is_refused(asked: str) -> None:
    with pytest.raises(UserError, match=asked.partition("=")[0]):
        plan("level=BASIC", asked)


def test_the_static_decoder_is_the_same_program() -> None:
    keys = {plan("level=HIGH", f"decoder={name}").build_key for name in ("static", "kv_cache")}
    assert len(keys) == 1


def test_the_method_for_prompts_can_be_left_out() -> None:
    assert plan("level=HIGH").graph["program"].params["prefill"] is True
    assert plan("level=HIGH", "decoder.prefill=false").graph["program"].params["prefill"] is False


def test_without_the_extra_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = targets.version

    def version(name: str) -> str:
        if name == "executorch":
            raise PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(targets, "version", version)
    with pytest.raises(UserError, match=r"(?s)needs executorch.*pip install 'pocket_opt\[executorch\]'"):
        plan("level=HIGH")


def test_executorch_is_another_name() -> None:
    assert plan("level=HIGH", target="executorch").row_key == plan("level=HIGH").row_key


def plan(*lines: str, target: str = "et_xnnpack") -> Plan:
    given = ("recipe=pocket_whisper", f"target={target}", *lines)
    return plan_variant(load(given), given)
