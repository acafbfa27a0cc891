"""Snapdragons: one class for all chips, which are data; other names; levels and decoders that the NPU cannot have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pocket_opt import targets
from pocket_opt.config import groups
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.variants import destination

CHIPS = {
    "sd8elite": ("SM8750", 69, 79, 8),
    "sd8gen3": ("SM8650", 57, 75, 8),
    "sd8gen2": ("SM8550", 43, 73, 8),
    "sd888": ("SM8350", 30, 68, 4),
    "xelite": ("SC8380XP", 60, 73, 8),
    "qcm6490": ("QCM6490", 93, 68, 2),
}


@pytest.fixture(autouse=True)
def _own_choices() -> object:
    groups.choices.cache_clear()
    yield
    groups.choices.cache_clear()


def plan(*lines: str, target: str = "snapdragon") -> Plan:
    own = [f"target={target}", "recipe=pocket_whisper", *lines]
    return plan_variant(load(own), own)


@pytest.mark.parametrize("name", CHIPS)
def test_the_chips(name: str) -> None:
    soc = targets.load_target(name).soc  # type: ignore[attr-defined]
    assert (soc.chip, soc.soc_model, soc.htp_arch, soc.vtcm_mb) == CHIPS[name]


@pytest.mark.parametrize("name", [name for name, chip in CHIPS.items() if chip[2] >= 69])
@pytest.mark.parametrize("level", ["BASIC", "MEDIUM"])
def test_every_chip_with_floats_compiles_static_graphs_for_itself(name: str, level: str) -> None:
    found = plan(f"level={level}", target=name)
    params = found.graph[found.result].params
    assert tuple(params[key] for key in ("chip", "soc_model", "htp_arch", "vtcm_mb")) == CHIPS[name]
    assert found.graph["export"].params["decoder"] == "static"


@pytest.mark.parametrize("name", CHIPS)
@pytest.mark.parametrize(("level", "bits"), [("HIGH", 8), ("EXTREME", 4)])
def test_integers_are_calibrated_before_they_are_compiled(name: str, level: str, bits: int) -> None:
    found = plan(f"level={level}", target=name)
    quantizer = found.graph["qdq"]
    assert (quantizer.params["weights"], quantizer.params["activations"]) == (bits, 16)
    assert quantizer.params["kept"] == ([] if level == "HIGH" else ["encoder.*_proj", "proj_out"])
    assert quantizer.params["norms"] == (8 if CHIPS[name][2] < 69 else 16)
    assert (quantizer.params["embedding"], quantizer.params["caches"]) == (8, 16 if level == "HIGH" else 8)
    assert quantizer.params["calibration_digest"]
    assert found.graph["compile"].inputs == {"model": "qdq"}
    assert found.graph["agreement"].inputs == {"model": "compile", "graphs": "qdq", "quality": "quality"}
    alone = plan(f"level={level}", "~nodes.quality", target=name)
    assert alone.graph["agreement"].inputs == {"model": "compile", "graphs": "qdq"}


def test_a_search_chooses_between_8_and_4_bits_before_graphs_are_quantized() -> None:
    found = plan("level=HIGH", "search=sensitivity", "budget.wer_delta=0.5")
    assert found.graph["search"].inputs == {"model": "export"}
    assert found.graph["qdq"].inputs == {"model": "search"}
    assert found.graph["search"].params["encoder_forms"] == ["static4"]


def test_snapdragon_is_another_name_of_the_flagship() -> None:
    one, other = plan("level=BASIC"), plan("level=BASIC", target="sd8elite")
    assert one.keys == other.keys
    assert (one.row_key, destination(one)) == (other.row_key, destination(other))
    assert one.components["whisper"]["target"] == "sd8elite"
    assert "snapdragon" not in targets.target_names()
    assert targets.load_target("snapdragon").name == "sd8elite"


def test_two_chips_have_rows_and_directories_of_their_own() -> None:
    one, other = plan("level=BASIC"), plan("level=BASIC", target="sd8gen3")
    assert one.keys["export"] == other.keys["export"]
    assert one.build_key != other.build_key
    assert destination(one) != destination(other)


@pytest.mark.parametrize(
    ("wrong", "near"), [("snapdragn", "snapdragon"), ("sd8elit", "sd8elite"), ("sd8gen4", "sd8gen")]
)
def test_a_chip_that_is_not_there_ends_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=f"there is no target '{wrong}', did you mean '{near}"):
        plan(target=wrong)


def test_a_chip_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soc = "soc: {chip: SM8850, soc_model: 87, htp_arch: 81, vtcm_mb: 8}\n"
    (tmp_path / "sd8elite5.yaml").write_text(f"name: sd8elite5\nsummary: the next one\n{soc}")
    monkeypatch.setenv(groups.USER_FOLDERS["target"], str(tmp_path))
    found = plan("level=BASIC", target="sd8elite5")
    assert found.graph["compile"].params["soc_model"] == 87
    assert destination(found).parent.name == "sd8elite5"


def test_a_chip_can_be_changed_for_one_run() -> None:
    found, usual = plan("level=BASIC", "target.soc.vtcm_mb=4"), plan("level=BASIC")
    assert found.graph["compile"].params["vtcm_mb"] == 4
    assert found.row_key != usual.row_key


def test_a_decoder_without_prefill_is_a_choice() -> None:
    assert plan("decoder.prefill=false").graph["export"].params["prefill"] is False
    with pytest.raises(UserError, match="no graph of its own for the prompt") as caught:
        plan("decoder.prefill=false", target="cpu")
    assert caught.value.where == "decoder.prefill=false, decoder=kv_cache"


@pytest.mark.parametrize(
    ("lines", "message", "where"),
    [
        (("target.soc.htp_arch=72",), "'72'", "target.soc.htp_arch"),
        (("target.soc.htp_arch=75",), "soc_model 69 is the SM8750, whose NPU is v79, not v75", "target.soc"),
        (("target.soc.soc_model=57",), "soc_model 57 is the SM8650, whose NPU is v75, not v79", "target.soc"),
        (("target.soc.soc_model=0",), "'0'", "target.soc.soc_model"),
        (("target.soc.vtcm=4",), "did you mean 'target.soc.vtcm_mb'", "target.soc.vtcm"),
        (("nodes.compile.params.soc_model=30",), "'soc_model' is worked out when planning", "nodes.compile"),
        (("nodes.compile.params.options={htp_arch: '79'}",), "set target.soc.htp_arch", "nodes.compile"),
        (("decoder=basic",), "the NPU takes fixed shapes only", "decoder=basic"),
        (("decoder=all_in_one",), "the NPU takes fixed shapes only", "decoder=all_in_one"),
        (("bundle.layout=optimum",), "the target sd8elite cannot write the layout", "bundle.layout"),
    ],
)
def test_what_does_not_fit_is_refused_when_planning(lines: tuple[str, ...], message: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        plan("level=BASIC", *lines)
    assert message in str(caught.value)
    assert where in caught.value.where


def test_a_chip_is_given_to_snapdragons_only() -> None:
    soc = [f"target.soc.{key}={value}" for key, value in zip(SOC_KEYS, CHIPS["sd8elite"], strict=True)]
    with pytest.raises(UserError, match="the target cpu is no Qualcomm chip"):
        plan(*soc, target="cpu")


SOC_KEYS = ("chip", "soc_model", "htp_arch", "vtcm_mb")


@pytest.mark.parametrize("name", ["sd888", "qcm6490"])
def test_old_generations_have_no_floats(name: str) -> None:
    with pytest.raises(UserError, match=r"\(HTP v68\) computes no floats") as caught:
        plan("level=MEDIUM", target=name)
    assert caught.value.fix == "choose level=HIGH"


def test_a_simulator_is_not_timed() -> None:
    found = plan("level=BASIC")
    for name in ("latency", "memory", "profile"):
        assert "a simulator's times and memory are not the chip's" in found.off[name]
    assert found.graph["agreement"].inputs == {"model": "compile", "graphs": "export", "quality": "quality"}
    assert found.graph["parity"].params["clips"] == 2
    assert plan("level=NONE").result == "source"


def test_shared_weights_are_not_measured() -> None:
    found = plan("level=BASIC", "nodes.compile.params.share_weights=true")
    for name in ("quality", "parity", "agreement", "degradation"):
        assert "cannot load binaries with shared weights" in found.off[name]


def test_models_with_long_windows_are_checked_by_the_compiler_alone() -> None:
    own = ["target=snapdragon", "recipe=whisper_small", "recipe.model.weights=random", "level=BASIC"]
    found = plan_variant(load(own), own)
    for name in ("parity", "agreement"):
        assert "the simulator takes minutes to hours" in found.off[name]
    assert [node.name for node in found.graph if node.kind == "measure"] == []


def test_without_the_extra_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    found = targets.version

    def version(name: str) -> str:
        if name == "onnxruntime-qnn":
            raise PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(targets, "version", version)
    message = r"(?s)target 'sd8elite' needs onnxruntime-qnn.*pip install 'pocket_opt\[snapdragon\]'"
    with pytest.raises(UserError, match=message):
        plan("level=BASIC")
    assert plan("level=NONE").result == "source"
