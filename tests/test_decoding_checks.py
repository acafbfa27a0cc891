"""Decoders and searches that do not fit together end before any work; one file ends the chain and has no profile."""

from __future__ import annotations

import pytest

from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant


def plan(*lines: str) -> Plan:
    return plan_variant(load(lines), lines)


def test_beams_are_searched_inside_the_graph() -> None:
    found = plan("decoder=all_in_one", "decoding=beam", "decoding.beams=3", "decoding.length_penalty=0.5")
    [compose] = [node for node in found.graph if node.name == "compose"]
    assert (compose.params["beams"], compose.params["length_penalty"]) == (3, 0.5)


@pytest.mark.parametrize("setting", ["audio_context=auto", "word_timestamps=true"])
def test_what_happens_between_graphs_is_refused_for_one_graph(setting: str) -> None:
    with pytest.raises(UserError, match="done between the graphs") as caught:
        plan("decoder=all_in_one", setting)
    assert "decoder=kv_cache" in str(caught.value.fix)
    plan("decoder=kv_cache", setting)


@pytest.mark.parametrize("level", ["BASIC", "EXTREME"])
def test_times_of_words_are_a_matter_of_the_export(level: str) -> None:
    with_words, without = plan("word_timestamps=true", f"level={level}"), plan(f"level={level}")
    assert with_words.graph["export"].params["word_timestamps"] is True
    assert with_words.build_key != without.build_key
    assert plan("word_timestamps=true", "level=NONE").build_key == plan("level=NONE").build_key


@pytest.mark.parametrize(
    ("lines", "message", "where"),
    [
        (("decoder=static",), "one token a call", "nodes.export: word_timestamps"),
        (("bundle.layout=optimum",), "knows no outputs for the times of words", "bundle.layout"),
        (("nodes.export.pass=optimum_export",), "no pass of this variant", "word_timestamps=true"),
    ],
)
def test_times_of_words_that_nothing_would_tell_are_refused(
    lines: tuple[str, ...], message: str, where: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan("word_timestamps=true", *lines)
    assert caught.value.where == where
    assert caught.value.fix


@pytest.mark.parametrize("level", ["BASIC", "HIGH"])
def test_one_file_is_composed_last_and_has_no_profile(level: str) -> None:
    found = plan("decoder=all_in_one", f"level={level}")
    builds = [node for node in found.graph if node.kind == "build"]
    assert builds[-1].pass_name == "compose_all_in_one"
    assert found.result == "compose"
    assert next(node for node in builds if node.name == "export").params["decoder"] == "kv_cache"
    assert "one graph holds all phases" in found.off["profile"]


def test_the_source_model_is_composed_of_nothing() -> None:
    found = plan("decoder=all_in_one", "level=NONE")
    assert found.result == "source"
    assert "compose" in found.off
    assert "profile" not in found.off


def test_only_one_graph_reads_files() -> None:
    with pytest.raises(UserError, match="reads audio files by itself") as caught:
        plan("decoder=kv_cache", "+decoder.audio=file")
    assert "decoder=all_in_one" in caught.value.fix
