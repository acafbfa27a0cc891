"""`bundle.layout` while planning: the node it adds, and everything that it cannot be written for."""

from __future__ import annotations

import pytest

from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant

RANDOM = ("recipe=whisper_tiny", "recipe.model.weights=random")


def plan(*lines: str) -> Plan:
    return plan_variant(load(lines), lines)


def refusal(*lines: str) -> UserError:
    with pytest.raises(UserError) as raised:
        plan(*lines)
    return raised.value


def test_our_own_layout_adds_nothing() -> None:
    assert "layout" not in plan().graph
    assert plan().keys == plan("bundle.layout=native").keys


@pytest.mark.parametrize("layout", ["optimum", "transformers_js", "sherpa_onnx"])
def test_a_layout_is_the_last_build_and_what_is_measured(layout: str) -> None:
    found = plan(f"bundle.layout={layout}")
    assert found.result == "layout"
    assert found.graph["layout"].pass_name == f"layout_{layout}"
    assert found.graph["layout"].inputs == {"model": "fp16"}
    assert found.graph["quality"].inputs == {"model": "layout"}
    assert found.row_key != plan().row_key
    assert found.keys["fp16"] == plan().keys["fp16"]


def test_nodes_that_users_add_come_before_it() -> None:
    found = plan("bundle.layout=optimum", "level=BASIC", "nodes.small.pass=store_fp16")
    assert found.graph["layout"].inputs == {"model": "small"}


@pytest.mark.parametrize(
    ("level", "dtype"), [("BASIC", "fp32"), ("MEDIUM", "fp16"), ("HIGH", "q8"), ("EXTREME", "q4")]
)
def test_transformers_js_is_told_the_precision_of_the_level(level: str, dtype: str) -> None:
    assert plan("bundle.layout=transformers_js", f"level={level}").graph["layout"].params == {"dtype": dtype}


def test_genai_takes_models_of_its_window() -> None:
    assert plan("bundle.layout=genai", "level=BASIC", *RANDOM).result == "layout"
    error = refusal("bundle.layout=genai")
    assert "feeds 30 s at once, and this model takes 4 s" in error.what
    assert error.allowed == "native, optimum, transformers_js, sherpa_onnx, android"
    assert error.where == "bundle.layout"


def test_a_decoder_without_caches_fits_no_client() -> None:
    error = refusal("bundle.layout=optimum", "decoder=basic")
    assert (error.where, error.fix) == ("bundle.layout", "set decoder=kv_cache")


def test_a_shortened_context_is_nothing_that_clients_feed() -> None:
    assert refusal("bundle.layout=optimum", "audio_context=auto").fix == "set audio_context=full"


def test_the_source_model_has_no_graphs_to_lay_out() -> None:
    error = refusal("bundle.layout=sherpa_onnx", "level=NONE")
    assert "level NONE keeps the source model" in error.what
    assert "level=BASIC" in error.fix


def test_an_unknown_layout_is_told_the_nearest() -> None:
    error = refusal("bundle.layout=sherpa-onnx")
    assert "did you mean 'sherpa_onnx'" in str(error)


def test_the_node_is_changed_by_its_key_alone() -> None:
    error = refusal("bundle.layout=transformers_js", "nodes.layout.pass=layout_optimum")
    assert (error.where, error.fix) == ("nodes.layout", "set bundle.layout, or give your node another name")


@pytest.mark.parametrize("target", ["openvino", "cpu_best"])
def test_a_target_that_may_make_no_onnx_graphs_says_so(target: str) -> None:
    error = refusal("bundle.layout=optimum", f"target={target}")
    assert error.what == f"the target {target} cannot write the layout optimum"
    assert (error.allowed, error.fix) == ("native", "choose another layout, or target=cpu")


@pytest.mark.parametrize("target", ["snapdragon", "sd8gen3"])
def test_android_takes_what_was_compiled(target: str) -> None:
    found = plan("bundle.layout=android", f"target={target}")
    assert found.graph["layout"].inputs == {"model": "compile"}
    assert found.graph["agreement"].inputs == {"model": "layout", "graphs": "qdq", "quality": "quality"}
    assert found.graph["quality"].inputs == {"model": "layout"}


def test_a_laptop_takes_no_app_for_phones() -> None:
    error = refusal("bundle.layout=android", "target=xelite")
    assert error.what == "the layout android is for phones, and devices with the SC8380XP run no Android"
    assert (error.where, error.allowed) == ("bundle.layout", "native for this chip")
    assert plan("target=xelite").result == "compile"
    own = "target.soc={chip: X, soc_model: 999, htp_arch: 79, vtcm_mb: 8, android: false}"
    assert (
        "devices with the X run no Android" in refusal("bundle.layout=android", "target=sd8elite", own).what
    )


def test_android_on_the_cpu_has_fixed_shapes() -> None:
    assert plan("bundle.layout=android", "decoder=static").graph["layout"].params["target"] == "cpu"
    error = refusal("bundle.layout=android")
    assert (error.where, error.fix) == ("bundle.layout", "set decoder=static")
    assert "decoder=kv_cache" in error.what


def test_shared_weights_are_not_for_android() -> None:
    shared = ("target=snapdragon", "nodes.compile.params.share_weights=true")
    assert refusal("bundle.layout=android", *shared).where == "nodes.compile.params.share_weights"
    assert plan(*shared).result == "compile"


def test_layouts_of_others_are_not_for_the_npu() -> None:
    assert refusal("bundle.layout=optimum", "target=snapdragon").allowed == "native, android"
