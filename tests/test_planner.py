"""Recipe x target x level -> graph: what is on, what is off and why, edits, keys, and nothing that needs a network."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from planned_inputs import write_clips, write_model

import pocket_opt
from pocket_opt import planner
from pocket_opt.calibration import CalibrationClips
from pocket_opt.config import groups
from pocket_opt.config.loading import load
from pocket_opt.config.schema import LEVELS, Intents
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import UserError
from pocket_opt.graph import PassGraph
from pocket_opt.graph_edits import Draft, Edit
from pocket_opt.home import home
from pocket_opt.planner import Plan, installed_version, plan_variant
from pocket_opt.targets.base import Step

BUILD = {
    "NONE": ["source"],
    "BASIC": ["source", "export", "fuse"],
    "MEDIUM": ["source", "export", "fuse", "fp16"],
    "HIGH": ["source", "export", "fuse", "encoder_int8", "weights", "embedding", "fp16"],
    "EXTREME": ["source", "student", "export", "fuse", "encoder_int8", "weights", "embedding", "fp16"],
}
OWN = {"quality", "latency", "memory", "profile"}
COMPARISON = {"baseline.quality", "baseline.latency", "baseline.memory", "degradation", "parity"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"the network was touched: {arguments[1:] or arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Overrides that put a small model, a student and clips in the place of the sample's."""
    return [
        f"recipe.model.path={write_model(tmp_path / 'teacher')}",
        f"recipe.student.path={write_model(tmp_path / 'student', weights=b'fewer')}",
        f"data.evaluation.path={write_clips(tmp_path / 'clips')}",
    ]


def plan(*lines: str) -> Plan:
    return plan_variant(load(lines), lines)


def builds(found: Plan) -> list[str]:
    return [node.name for node in found.graph if node.kind == "build"]


def measures(found: Plan) -> set[str]:
    return {node.name for node in found.graph if node.kind == "measure"}


# levels


@pytest.mark.parametrize("level", LEVELS)
def test_the_graph_of_each_level(inputs: list[str], level: str) -> None:
    found = plan(*inputs, f"level={level}")
    assert sorted(builds(found)) == sorted(BUILD[level])
    assert measures(found) == (OWN if level == "NONE" else OWN | COMPARISON)
    assert found.result == BUILD[level][-1]
    chain = [name for name in BUILD[level] if name not in ("source", "student")]
    last = "student" if level == "EXTREME" else "source"
    for name in chain:
        assert found.graph[name].inputs == {"model": last}
        last = name
    for name in OWN:
        assert found.graph[name].inputs == {"model": found.result}
    everything = {*BUILD["EXTREME"], *OWN, *COMPARISON}
    baseline = {"baseline.quality", "baseline.latency", "baseline.memory"}
    assert {*builds(found), *measures(found), *found.off} >= everything - baseline
    assert not {*builds(found), *measures(found)} & set(found.off)


def test_every_node_says_why_it_is_there_and_every_missing_one_why_not(inputs: list[str]) -> None:
    for level in LEVELS:
        found = plan(*inputs, f"level={level}")
        assert all(node.why for node in found.graph)
        assert all(found.off.values())


def test_what_the_comparison_is_made_of(inputs: list[str]) -> None:
    graph = plan(*inputs, "level=HIGH").graph
    assert graph["degradation"].inputs == {"quality": "quality", "baseline": "baseline.quality"}
    assert graph["parity"].inputs == {"model": "fp16", "source": "source"}
    assert graph["baseline.quality"].inputs == {"model": "source"}


def test_the_reasons_for_what_is_off(inputs: list[str]) -> None:
    assert plan(*inputs, "level=BASIC").off == {
        "student": "this level asks for no student",
        "encoder_int8": "this level asks for no 8-bit weights with dynamic activations",
        "weights": "this level asks for no integer weights",
        "embedding": "this level asks for no integer weights",
        "fp16": "this level asks for no 16-bit storage",
    }
    none = plan(*inputs, "level=NONE").off
    assert none["export"] == none["fp16"] == "this level keeps the source model in its own framework"
    assert none["parity"] == none["degradation"] == "this is the source model itself"


def test_intents_and_decoder_choose_parameters(inputs: list[str]) -> None:
    assert plan(*inputs, "level=HIGH").graph["weights"].params["bits"] == 8
    smallest = plan(*inputs, "level=EXTREME").graph
    assert smallest["weights"].params["bits"] == 4
    assert smallest["encoder_int8"].params["components"] == ["encoder"]
    assert smallest["encoder_int8"].params["bits"] == 4
    assert smallest["embedding"].params["bits"] == 4
    assert plan(*inputs, "decoder=basic").graph["export"].params["decoder"] == "basic"
    assert (
        plan(*inputs, "level=BASIC", "level.intents.fusion=none").off["fuse"]
        == "this level asks for no fusion"
    )
    assert "fp16" in builds(plan(*inputs, "level=BASIC", "level.intents.rest=fp16"))


def test_measurements_take_what_they_declare(inputs: list[str]) -> None:
    lines = [*inputs, "decoding.language=de", "decoding.batch_size=3", "decoding.timestamps=true"]
    found = plan(*lines, "data.evaluation.limit=2", "target.threads=1")
    quality = found.graph["quality"]
    assert quality.params["language"] == "de"
    assert quality.params["batch_size"] == 3
    assert quality.params["timestamps"] is True
    assert quality.params["limit"] == 2
    assert len(quality.params["data_digest"]) == 64
    assert quality.neutral["data_path"].endswith("clips/transcripts.jsonl")
    assert "data_path" not in quality.params
    assert found.clips == 3


def test_quality_is_measured_with_the_beams_of_the_variant_on_the_source_too(inputs: list[str]) -> None:
    found = plan(*inputs, "decoding=beam", "decoding.beams=3")
    for name in ("quality", "baseline.quality"):
        params = found.graph[name].params
        assert (params["beams"], params["length_penalty"]) == (3, 1.0)


# the student


def test_the_student_stands_at_the_beginning_of_the_chain(inputs: list[str]) -> None:
    found = plan(*inputs, "level=EXTREME")
    assert found.graph["export"].inputs == {"model": "student"}
    assert found.graph["student"].params["digest"] != found.graph["source"].params["digest"]
    assert set(found.roots) == {"source", "student"}


def test_without_a_student_the_reason_is_told(inputs: list[str]) -> None:
    high = plan(*inputs, "level=HIGH")
    assert high.off["student"] == "this level asks for no student"
    none = plan(*inputs[::2], "level=EXTREME", "recipe.student=null")
    assert none.off["student"] == "the recipe names no student"
    assert none.graph["export"].inputs == {"model": "source"}
    random = plan(
        "recipe=whisper_tiny", "recipe.model.weights=random", "level=EXTREME", "recipe.student.path=x"
    )
    assert random.off["student"] == "random weights have nothing to distil"


def test_the_student_is_switched_off_by_its_intent(inputs: list[str]) -> None:
    found = plan(*inputs, "level=EXTREME", "level.intents.student=false")
    assert found.off["student"] == "this level asks for no student"
    with pytest.raises(UserError, match="'student' is where the graph begins") as caught:
        plan(*inputs, "level=EXTREME", "~nodes.student")
    assert "level.intents.student=false" in caught.value.fix


# edits


def test_a_node_is_switched_off(inputs: list[str]) -> None:
    found = plan(*inputs, "level=HIGH", "~nodes.fuse", "~nodes.fp16")
    assert builds(found) == ["source", "export", "encoder_int8", "weights", "embedding"]
    assert found.result == "embedding"
    assert found.off["fuse"] == "switched off by you"
    assert found.graph["encoder_int8"].inputs == {"model": "export"}


def test_what_is_done_to_the_static_decoder_is_done_to_its_prefill(inputs: list[str]) -> None:
    graph = plan(*inputs, "decoder=static", "level=HIGH").graph
    for name in ("fuse", "weights", "embedding", "fp16"):
        assert set(graph[name].params["components"]) >= {"prefill", "decoder"}, name
    assert graph["embedding"].params["components"] == ["decoder", "prefill"]
    assert graph["encoder_int8"].params["components"] == ["encoder"]
    alone = plan(*inputs, "decoder=static", "decoder.prefill=false", "level=HIGH").graph
    assert alone["embedding"].params["components"] == ["decoder"]


def test_a_parameter_is_changed_and_with_it_the_keys_downstream(inputs: list[str]) -> None:
    before = plan(*inputs, "level=HIGH")
    after = plan(*inputs, "level=HIGH", "nodes.weights.params.block_size=16")
    assert after.graph["weights"].params["block_size"] == 16
    assert after.graph["weights"].params["bits"] == 8
    changed = {name for name in before.keys if before.keys[name] != after.keys[name]}
    assert changed == {"weights", "embedding", "fp16", *OWN, "parity", "degradation"}


def test_a_node_is_added(inputs: list[str], fake_passes: Path) -> None:
    found = plan(*inputs, "level=BASIC", "nodes.extra.pass=fake_add", "nodes.extra.params.amount=2")
    assert found.result == "extra"
    assert found.graph["extra"].params == {"amount": 2.0}
    assert found.graph["extra"].neutral == {"fail": "no", "sleep_s": 0.0}
    assert found.graph["quality"].inputs == {"model": "extra"}
    middle = plan(*inputs, "level=BASIC", "nodes.extra={pass: fake_add, after: export}")
    assert middle.graph["fuse"].inputs == {"model": "extra"}


def test_a_node_that_the_level_leaves_out_can_be_added_by_its_name(inputs: list[str]) -> None:
    found = plan(*inputs, "level=BASIC", "nodes.fp16.pass=store_fp16")
    assert found.result == "fp16"
    assert "fp16" in builds(found)
    assert "fp16" not in found.off


def test_a_node_that_is_off_anyway_can_be_switched_off_so_that_sweeps_over_levels_go(
    inputs: list[str],
) -> None:
    for level in LEVELS:
        assert "fp16" not in builds(plan(*inputs, f"level={level}", "~nodes.fp16"))
    with pytest.raises(UserError, match="the node 'fp16' is off: this level asks for no 16-bit storage"):
        plan(*inputs, "level=BASIC", "nodes.fp16.params.min_bytes=1")


def test_measurements_can_be_switched_off_with_what_depends_on_them(inputs: list[str]) -> None:
    found = plan(*inputs, "~nodes.quality", "~nodes.baseline.memory", "~nodes.profile")
    assert measures(found) == {"latency", "memory", "baseline.latency", "parity"}
    assert found.off["baseline.quality"] == "quality is off: switched off by you"
    for name in ("quality", "degradation", "baseline.memory", "profile"):
        assert found.off[name] == "switched off by you"
    for level in LEVELS:
        assert "parity" not in measures(plan(*inputs, f"level={level}", "~nodes.parity"))


def test_parameters_of_a_measurement_are_changed(inputs: list[str]) -> None:
    found = plan(*inputs, "nodes.latency.params.warmup=1", "nodes.baseline.latency.params.warmup=2")
    assert found.graph["latency"].params["warmup"] == 1
    assert found.graph["baseline.latency"].params["warmup"] == 2


def test_a_measurement_is_added_beside_the_chain(inputs: list[str], fake_passes: Path) -> None:
    found = plan(*inputs, "nodes.check.pass=fake_number", "nodes.check.after=export", "decoding.batch_size=4")
    assert found.graph["check"].inputs == {"model": "export"}
    assert found.graph["check"].params == {"batch_size": 4, "unit": ""}
    assert found.graph["check"].host is not None
    assert found.graph["fuse"].inputs == {"model": "export"}
    assert found.result == "fp16"


def test_a_pass_with_two_inputs_needs_both(inputs: list[str], fake_passes: Path) -> None:
    with pytest.raises(UserError, match="the pass 'fake_difference' takes the inputs model, other"):
        plan(*inputs, "nodes.d.pass=fake_difference", "nodes.d.inputs.model=fp16")
    found = plan(*inputs, "nodes.d.pass=fake_difference", "nodes.d.inputs={model: fp16, other: source}")
    assert found.graph["d"].inputs == {"model": "fp16", "other": "source"}


def test_the_content_of_an_override_file_enters_the_keys_of_all_quantizers(
    inputs: list[str], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "c.yaml")]
    for file, bits in zip(files, (4, 4, 8), strict=True):
        file.write_text(f"decoder.*: {{bits: {bits}}}")
    first, same, other = (plan(*inputs, f"overrides={file}") for file in files)
    assert first.keys == same.keys
    changed = {name for name in first.keys if first.keys[name] != other.keys[name]}
    assert {"encoder_int8", "weights", "embedding"} <= changed
    assert not {"source", "export", "fuse"} & changed
    own = plan(*inputs, f"overrides={files[0]}", "nodes.weights.params.overrides={*.fc1: {bits: none}}")
    rules = [rule["pattern"] for rule in own.graph["weights"].params["overrides"]]
    assert rules == ["decoder.*", "*.fc1"]


def test_an_override_file_that_nothing_reads_is_refused(inputs: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("decoder.*: {bits: 4}")
    with pytest.raises(UserError, match="no pass of this variant chooses a precision by layer"):
        plan(*inputs, f"overrides={tmp_path / 'a.yaml'}", "level=BASIC")


def test_gptq_asks_for_calibration_clips_wherever_it_is_named(inputs: list[str]) -> None:
    for line in (
        "nodes.weights.params.algorithm=gptq",
        "nodes.weights.params.overrides={decoder.layers.0.*: {algorithm: gptq}}",
    ):
        assert plan(*inputs, line).graph["weights"].params["calibration_digest"]
    with pytest.raises(UserError, match="hqq fits zero points") as caught:
        plan(*inputs, "nodes.weights.params.algorithm=hqq")
    assert caught.value.where == "nodes.weights: params.symmetric"


def test_a_search_stands_before_the_first_quantizer_and_keeps_to_the_budget(inputs: list[str]) -> None:
    found = plan(*inputs, "search=sensitivity")
    assert builds(found) == [
        "source",
        "export",
        "fuse",
        "search",
        "encoder_int8",
        "weights",
        "embedding",
        "fp16",
    ]
    assert found.graph["encoder_int8"].inputs == {"model": "search"}
    search = found.graph["search"]
    assert search.params["wer_delta"] == 1.0  # the recipe's, for HIGH
    assert search.params["calibration_digest"]
    own = plan(*inputs, "search=sensitivity", "budget.wer_delta=0.25")
    assert own.graph["search"].params["wer_delta"] == 0.25
    assert own.row_key != found.row_key
    assert own.config.level_budget == {"wer_delta": 0.25}
    assert "search" not in builds(plan(*inputs, "search=sensitivity", "~nodes.search"))


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["level=BASIC"], "no pass of this variant chooses a precision by layer"),
        (
            ["recipe.budget.HIGH={}", "recipe.budget.HIGH.wer_delta=1", "nodes.search.params.wer_delta=2"],
            "worked out",
        ),
        (["level=MEDIUM", "budget.wer_delta=1"], "no pass of this variant chooses a precision by layer"),
        (["decoder=static"], "forms that the search does not try in graphs of fixed shapes"),
    ],
)
def test_a_search_that_cannot_be(inputs: list[str], lines: list[str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        plan(*inputs, "search=sensitivity", *lines)


def test_a_budget_is_needed_and_limits_what_is_measured(inputs: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("defaults: [pocket_whisper, _self_]\nbudget: {HIGH: null}\n")
    lines = [line for line in inputs if "student" not in line]
    with pytest.raises(UserError):
        plan(*lines, f"recipe={recipe}", "search=sensitivity")
    with pytest.raises(UserError, match="did you mean 'wer_delta'") as caught:
        plan(*inputs, "budget.wer_dleta=1")
    assert caught.value.where == "budget.wer_dleta"


def test_only_a_pass_that_calibrates_is_told_the_clips(
    inputs: list[str], fake_passes: Path, tmp_path: Path
) -> None:
    clips = write_clips(tmp_path / "own", count=2)
    own = [*inputs, f"data.calibration.path={clips}", "nodes.x.pass=fake_calibrated"]
    found = plan(*own)
    assert found.graph["x"].params["calibration_digest"] == Dataset.open(clips).digest()
    assert found.graph["x"].neutral == {"calibration_path": str(clips / "transcripts.jsonl")}
    assert "calibration" not in found.off
    plain = plan(*own, "nodes.x.params.method=plain")
    assert plain.graph["x"].params["calibration_digest"] == plain.graph["x"].neutral["calibration_path"] == ""
    assert "no pass of this variant" in plain.off["calibration"]


def test_the_place_of_calibration_clips_stays_out_of_the_key(
    inputs: list[str], fake_passes: Path, tmp_path: Path
) -> None:
    here, there = (write_clips(tmp_path / name) for name in ("here", "there"))
    other = write_clips(tmp_path / "other", count=2)
    keys = [
        plan(*inputs, f"data.calibration.path={clips}", "nodes.x.pass=fake_calibrated").keys["x"]
        for clips in (here, there, other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_where_calibration_clips_come_from(inputs: list[str], fake_passes: Path) -> None:
    sample = Dataset.open("sample:calibration").digest()
    lines = [*inputs, "nodes.x.pass=fake_calibrated"]
    assert plan(*lines).graph["x"].params["calibration_digest"] == sample
    random = ["recipe=whisper_tiny", "recipe.model.weights=random", "nodes.x.pass=fake_calibrated"]
    assert plan(*random).graph["x"].params["calibration_digest"] == sample
    with pytest.raises(UserError, match="calibrated on audio, and none is named") as caught:
        plan(*lines, "recipe.data.calibration=null")
    assert caught.value.where == "nodes.x"
    assert "data.calibration.path=DIR" in caught.value.fix
    with pytest.raises(UserError, match="set data.calibration.path"):
        plan(*lines, "nodes.x.params.calibration_path=/tmp")


@pytest.mark.parametrize(
    ("line", "what", "where"),
    [
        ("nodes.fuze.params.x=1", "there is no node 'fuze', did you mean 'fuse'?", "nodes.fuze"),
        ("~nodes.qualty", "there is no node 'qualty', did you mean 'quality'?", "nodes.qualty"),
        (
            "nodes.x.pass=wieght_only",
            "there is no pass 'wieght_only', did you mean 'weight_only'?",
            "nodes.x.pass",
        ),
        (
            "nodes.x={pass: weight_only, after: fuze}",
            "there is no node 'fuze', did you mean 'fuse'?",
            "nodes.x.after",
        ),
        (
            "nodes.weights.params.bist=4",
            "there is no key 'bist', did you mean 'bits'?",
            "nodes.weights: params",
        ),
        (
            "nodes.weights.params.bits=four",
            "there is no value 'four'",
            "nodes.weights: params.bits",
        ),
        (
            "nodes.latency.params.wramup=1",
            "there is no key 'wramup', did you mean 'warmup'?",
            "nodes.latency: params",
        ),
        ("nodes.fuse.parms.x=1", "there is no key 'parms', did you mean 'params'?", "nodes.fuse"),
        (
            "nodes.fuse.inputs.model=exprot",
            "there is no node 'exprot', did you mean 'export'?",
            "nodes.fuse, input 'model'",
        ),
        ("nodes.fuse.inputs.modle=export", "the pass 'fuse' takes the inputs model", "nodes.fuse.inputs"),
        ("nodes.fuse.inputs.model=fp16", "the graph has a circle", "nodes"),
        ("nodes.quality.pass=parity", "'quality' is a measurement", "nodes.quality"),
        ("nodes.fuse.pass=quality", "the pass 'quality' measures", "nodes.fuse.pass"),
        ("nodes.fuse=null", "nothing stands where a table of keys is expected", "nodes.fuse"),
        ("~nodes.source", "'source' is where the graph begins", "nodes.source"),
        ("nodes.weights.params.bits=5", "one of 2, 4, 8", "nodes.weights: params.bits"),
        ("nodes.weights.params.block_size=24", "one of 16, 32", "nodes.weights: params.block_size"),
        ("nodes.weights.params.algorithm=awq", "there is no value 'awq'", "nodes.weights: params.algorithm"),
        (
            "nodes.weights.params.overrides=[[a,2]]",
            "a table of keys is expected",
            "nodes.weights.params.overrides: override 1",
        ),
        (
            "nodes.weights.params.components=[decodr]",
            "did you mean 'decoder'?",
            "nodes.weights: params.components",
        ),
        ("nodes.fuse.params.rules=[atention]", "did you mean 'attention'?", "nodes.fuse: params.rules"),
        ("nodes.fp16.params.compute=half", "there is no value 'half'", "nodes.fp16: params.compute"),
        ("nodes.embedding.params.bits=2", "one of 4, 8", "nodes.embedding: params.bits"),
        ("nodes.latency.params.max_repeats=0", "a number from 1 on", "nodes.latency: params.max_repeats"),
        ("nodes.quality.params.batch_size=0", "a number from 1 on", "nodes.quality: params.batch_size"),
        ("nodes.source.params.path=/m", "'path' is worked out when planning", "nodes.source.params"),
        (
            "nodes.quality.params.data_path=/d",
            "'data_path' is worked out when planning",
            "nodes.quality.params",
        ),
        ("nodes.parity.params.data_digest=0", "'data_digest' is worked out", "nodes.parity.params"),
    ],
)
def test_a_mistake_in_an_edit_is_told(inputs: list[str], line: str, what: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*inputs, "level=HIGH", line)
    assert what in caught.value.what
    assert caught.value.where.startswith(where)
    assert caught.value.exit_code == 2


# data and sources


def test_without_evaluation_data_nothing_is_scored(inputs: list[str]) -> None:
    found = plan(*inputs[:2], "recipe.data.evaluation=null")
    assert not measures(found) & {"quality", "baseline.quality", "degradation"}
    assert found.off["quality"] == "no evaluation data: set data.evaluation.path=DIR"
    assert {"latency", "parity"} <= measures(found)
    assert found.clips is None


def test_random_weights_are_measured_for_speed_and_parity_only() -> None:
    found = plan("recipe=whisper_tiny", "recipe.model.weights=random", "seed=3")
    assert found.graph["source"].pass_name == "random_weights"
    assert found.graph["source"].params["d_model"] == 384
    assert found.graph["source"].params["seed"] == 3
    assert found.off["quality"] == "random weights say nothing"
    assert not measures(found) & {"quality", "degradation", "baseline.quality"}
    assert {"latency", "memory", "parity", "baseline.latency"} <= measures(found)
    assert found.downloads == []


def test_a_model_of_the_hub_is_planned_offline_and_named_for_download() -> None:
    found = plan("recipe=whisper_tiny")
    assert found.downloads == [("openai/whisper-tiny", "main")]
    assert found.graph["source"].params["digest"] == ""
    assert found.off["quality"].startswith("no evaluation data")


def test_a_downloaded_model_is_planned_by_its_content(tmp_path: Path) -> None:
    model = write_model(tmp_path / "snapshot")
    memory = home() / "hub" / "revisions.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(f'{{"openai/whisper-tiny@main": {{"path": "{model}", "commit": "abc123"}}}}')
    found = plan("recipe=whisper_tiny")
    assert found.downloads == []
    assert len(found.graph["source"].params["digest"]) == 64
    assert found.roots["source"].identity["revision"] == "abc123"


@pytest.mark.parametrize(
    ("line", "what", "where"),
    [
        ("recipe.model.path=/no/where", "there is no directory /no/where", "recipe.model.path"),
        ("recipe.student.path=/no/where", "there is no directory /no/where", "recipe.student.path"),
        ("recipe.model.path=sample:techer", "did you mean 'teacher'?", "recipe.model.path"),
        ("data.evaluation.path=/no/where", "/no/where does not exist", "data.evaluation.path"),
        ("data.calibration.path=/no/where", "/no/where does not exist", "data.calibration.path"),
        ("recipe.model.path=null", "no model is named", "recipe.model"),
        ("decoding.language=dee", "no language of this model 'dee', did you mean 'de'?", "decoding.language"),
        ("decoding.beams=3", "greedy decoding follows one sequence, not 3", "decoding.beams"),
        ("decoding.length_penalty=inf", "'inf' is no length penalty", "decoding.length_penalty"),
        ("recipe.budget.BASIC.wer_dleta=1", "did you mean 'wer_delta'?", "recipe.budget.BASIC.wer_dleta"),
        (
            "recipe.model.weights=random",
            "random weights need the model's dimensions",
            "recipe.model.architecture",
        ),
    ],
)
def test_inputs_that_are_not_there_are_told(inputs: list[str], line: str, what: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*inputs, "level=EXTREME", line)
    assert what in caught.value.what
    assert caught.value.where == where


# keys


def test_the_variants_of_a_sweep_share_what_is_equal(inputs: list[str]) -> None:
    plans = {level: plan(*inputs, f"level={level}") for level in LEVELS}
    none = plans["NONE"].keys
    for level in LEVELS[1:]:
        keys = plans[level].keys
        assert keys["source"] == none["source"]
        for name in ("quality", "latency", "memory"):
            assert keys[f"baseline.{name}"] == none[name]
    assert plans["MEDIUM"].keys["fuse"] == plans["BASIC"].keys["fuse"] == plans["HIGH"].keys["fuse"]
    assert plans["EXTREME"].keys["export"] != plans["HIGH"].keys["export"]
    assert len({found.build_key for found in plans.values()}) == 5
    assert len({found.measurement_key for found in plans.values()}) == 5
    assert len({found.row_key for found in plans.values()}) == 5


def test_keys_do_not_depend_on_where_things_lie(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = plan(*inputs, "level=EXTREME")
    other = tmp_path / "moved"
    for name in ("teacher", "student", "clips"):
        shutil.copytree(tmp_path / name, other / name)
    monkeypatch.chdir(other)
    monkeypatch.setenv("POCKET_OPT_HOME", str(other / "home"))
    monkeypatch.setenv("HOME", str(other))
    there = plan(
        "recipe.model.path=teacher",
        "recipe.student.path=~/student",
        "data.evaluation.path=./clips",
        "level=EXTREME",
    )
    assert there.keys == here.keys
    assert there.build_key == here.build_key


def test_content_changes_keys(inputs: list[str], tmp_path: Path) -> None:
    before = plan(*inputs).keys
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"other weights")
    after = plan(*inputs).keys
    assert after["source"] != before["source"]
    (tmp_path / "clips" / "transcripts.jsonl").write_text('{"file": "0.wav", "text": "other words"}\n')
    last = plan(*inputs).keys
    assert last["source"] == after["source"]
    assert last["quality"] != after["quality"]
    assert last["latency"] == after["latency"]


def test_files_that_are_no_part_of_the_model_leave_the_keys(inputs: list[str], tmp_path: Path) -> None:
    before = plan(*inputs).keys
    (tmp_path / "teacher" / "README.md").write_text("a card")
    (tmp_path / "teacher" / "runs").mkdir()
    assert plan(*inputs).keys == before


def test_another_machine_measures_again_but_builds_the_same(
    inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = plan(*inputs)
    monkeypatch.setattr(planner, "host_id", lambda: "another machine")
    there = plan(*inputs)
    changed = {name for name in here.keys if here.keys[name] != there.keys[name]}
    assert changed == measures(here)
    assert here.build_key == there.build_key
    assert here.measurement_key != there.measurement_key


def test_the_row_is_what_the_user_named(inputs: list[str]) -> None:
    row = plan(*inputs).row_key
    assert plan(*reversed(inputs)).row_key == row
    assert plan(*inputs, "output_dir=/elsewhere", "tracking=none", "level=HIGH").row_key == row
    assert plan(*inputs, "decoder=basic").row_key != row
    assert plan(*inputs, "decoder=kv_cache").row_key != row
    assert plan(*inputs, "decoder=kv_cache").build_key == plan(*inputs).build_key


def test_the_audio_context_reaches_the_export_and_its_key(inputs: list[str]) -> None:
    full, auto = plan(*inputs), plan(*inputs, "audio_context=auto")
    assert full.graph["export"].params["audio_context"] == "full"
    assert auto.graph["export"].params["audio_context"] == "auto"
    assert auto.build_key != full.build_key
    with pytest.raises(UserError, match="the static decoder reads caches of one length") as caught:
        plan(*inputs, "audio_context=auto", "decoder=static")
    assert caught.value.where == "nodes.export: audio_context"


def test_the_key_of_a_planned_node_is_pinned(fake_passes: Path) -> None:
    clips = CalibrationClips(load([]))
    context = {"measure": {"batch_size": 8, "language": "de"}, "build": {}}
    source = planner._node(
        Draft("source", "fake_source", {"value": 2, "threads": 4}, {}, "x"), Edit(), context, clips
    )
    add = planner._node(Draft("add", "fake_add", {}, {"model": "source"}, "x"), Edit(), context, clips)
    number = planner._node(Draft("number", "fake_number", {}, {"model": "add"}, "x"), Edit(), context, clips)
    graph = PassGraph([source, add, replace(number, host="a machine")])
    assert graph.keys() == {
        "source": "a3f29b9ff48e0e0b481205703303606881c36f2d4fb9b67032eab1670feb31a2",
        "add": "bb7ca857415dff005ecdff75c421dc047e6932f056960a31af3d80e30a495f28",
        "number": "e4e638c0f4206c2d3d6dc3e9d4d5947647b4ece00254e2da4341b994139279c8",
    }


def test_tools_enter_the_key(inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(*inputs)
    assert before.graph["export"].tools["onnx"] == installed_version("onnx")
    monkeypatch.setattr(planner, "installed_version", lambda name: "99")
    assert plan(*inputs).keys["export"] != before.keys["export"]


def test_a_package_that_is_not_installed_has_a_version_of_its_own() -> None:
    assert installed_version("no-such-distribution") == "absent"


# targets


@dataclass(frozen=True)
class _Board:
    """A target that takes other steps, as one of another room would."""

    steps_taken: tuple[Step, ...]
    packages: tuple[Any, ...] = ()

    def steps(self, intents: Intents, decoder: Any) -> list[Step]:
        return list(self.steps_taken)


def test_the_target_chooses_the_passes(
    inputs: list[str], fake_passes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = _Board(
        (Step("compile", "fake_add", {"amount": 3}, why="x"), Step("tune", "fake_add", off="no tuner here"))
    )
    monkeypatch.setattr(planner, "load_target", lambda name, soc: board)
    found = plan(*inputs)
    assert builds(found) == ["source", "compile"]
    assert found.off["tune"] == "no tuner here"
    with pytest.raises(UserError, match="the node 'tune' is off: no tuner here"):
        plan(*inputs, "nodes.tune.params.amount=1")


def test_a_target_that_is_not_there_is_told(inputs: list[str]) -> None:
    with pytest.raises(UserError, match="there is no target 'cup', did you mean 'cpu'"):
        plan(*inputs, "target.name=cup")


# everything that is shipped


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("recipe", sorted(groups.choices("recipe")))
def test_every_shipped_recipe_is_planned_at_every_level(recipe: str, level: str) -> None:
    found = pocket_opt.plan(recipe, "cpu", level)
    assert found.graph
    assert found.config.recipe.license


@pytest.mark.parametrize("recipe", sorted(set(groups.choices("recipe")) - {"pocket_whisper"}))
def test_every_shipped_recipe_is_planned_with_random_weights(recipe: str) -> None:
    found = pocket_opt.plan(recipe, "cpu", "EXTREME", ["recipe.model.weights=random"])
    assert found.graph["source"].pass_name == "random_weights"
    assert found.downloads == []


def test_what_is_measured_of_speed_and_memory_is_the_search_that_was_chosen() -> None:
    for line, beams in (("decoding=greedy", 1), ("decoding=beam", 5)):
        graph = plan("level=HIGH", line).graph
        assert {graph[name].params["beams"] for name in ("latency", "memory", "baseline.latency")} == {beams}


def test_the_whole_baseline_can_be_switched_off() -> None:
    found = plan("level=HIGH", "nodes.baseline.enabled=false")
    assert not [node.name for node in found.graph if node.name.startswith("baseline.")]
    assert found.off["degradation"] == "switched off by you"


def test_a_race_is_only_where_the_target_has_one() -> None:
    with pytest.raises(UserError, match="there is no node 'race'"):
        plan("level=HIGH", "nodes.race.params.max_seconds=3")
