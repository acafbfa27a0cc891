from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from compiled_whisper import ELITE, compiled, planted, quantized, static
from exported_whisper import exported, run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.whisper.runner import qnn_backend
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.passes import load_pass
from pocket_opt.qnn import context
from pocket_opt.runtimes import open_runtime

GRAPHS = ("encoder", "prefill", "decoder")


def test_every_graph_is_a_context_and_nothing_else() -> None:
    artifact, did = compiled().artifact, compiled().did
    for name in GRAPHS:
        assert [node.op_type for node in onnx.load(artifact.path(name)).graph.node] == ["EPContext"]
        assert did[name]["npu_share"] == 100
        assert did[name]["left_to_cpu"] == {}
        assert did[name]["checked"] == "reloaded: equal to the last bit"
        assert did[name]["cosine_to_cpu"] > 0.999
        part = artifact.components[name]
        assert (part.format, len(part.files)) == ("qnn_context", 2)
        assert part.inputs == static().components[name].inputs
        assert did[name]["bytes"] == artifact.size(name)


def test_the_description_says_what_chip_the_binaries_are_for() -> None:
    about = compiled().artifact.metadata
    assert about["runtime"] == "qnn"
    assert {key: about["qnn"][key] for key in ELITE} == ELITE
    assert about["qnn"]["graphs"] == list(GRAPHS)


def test_no_library_of_qualcomm_is_among_the_files() -> None:
    root = compiled().artifact.root
    assert not [path for path in root.rglob("*") if path.suffix in (".so", ".dll") or "lib" in path.name]
    assert all(str(Path.home()).encode() not in path.read_bytes() for path in root.rglob("*.onnx"))


def test_the_compiled_model_says_what_its_graphs_say() -> None:
    features = np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32)
    tokens = np.array([[301, 5, 7, 9, 11, 13]])
    npu, cpu = (open_runtime(one, threads=1) for one in (compiled().artifact, static()))
    found, expected = (one.decode(tokens, one.encode(features))[0] for one in (npu, cpu))
    assert np.array_equal(found.argmax(-1), expected.argmax(-1))
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    hidden = [one.encoder_hidden(one.encode(features)) for one in (npu, cpu)]
    assert np.corrcoef(hidden[0].ravel(), hidden[1].ravel())[0, 1] > 0.9999


def test_quantized_graphs_are_compiled_whole_and_hand_caches_on_in_levels(tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn", quantized(), tmp_path / "npu", **ELITE)
    for name in GRAPHS:
        assert outcome.did[name]["npu_share"] == 100
        assert outcome.did[name]["cosine_to_cpu"] > 0.999
        assert outcome.did[name]["bytes"] < 0.8 * compiled().did[name]["bytes"]
    features = np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32)
    tokens = np.array([[301, 5, 7, 9, 11, 13]])
    npu, cpu = (open_runtime(one, threads=1) for one in (outcome.artifact, quantized()))
    found, expected = (one.decode(tokens, one.encode(features))[0] for one in (npu, cpu))
    assert sqnr_db(expected, found) > 25


def test_options_of_run_time_are_handed_on_and_others_compiled_in(tmp_path: Path) -> None:
    options = {"htp_performance_mode": "burst", "enable_htp_spill_fill_buffer": "0"}
    params = {**ELITE, "optimization": 1, "options": options, "simulate_below": 0}
    outcome = run_pass("compile_qnn", static(), tmp_path, **params)
    assert outcome.artifact.metadata["qnn"]["run_options"] == {"htp_performance_mode": "burst"}
    assert outcome.did["encoder"]["checked"].startswith("structure only")


def test_shared_weights_lie_once_and_only_a_device_loads_them(tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn", static(), tmp_path, **ELITE, share_weights=True, simulate_below=0)
    parts = outcome.artifact.components
    assert parts["prefill"].files[1:] == parts["decoder"].files[1:] == ("prefill_qnn.bin",)
    shared = outcome.did["shared"]
    assert shared["bytes_after"] < 0.7 * shared["bytes_before"]
    assert shared["bytes_before"] == sum(outcome.did[name]["bytes"] for name in ("prefill", "decoder"))
    outcome.artifact.save()
    with pytest.raises(PocketOptError, match="which only a device can load"):
        open_runtime(outcome.artifact)


def test_a_model_may_do_without_prefill(tmp_path: Path) -> None:
    alone = replace(static(), components={k: v for k, v in static().components.items() if k != "prefill"})
    outcome = run_pass("compile_qnn", alone, tmp_path / "npu", **ELITE, simulate_below=0)
    assert outcome.artifact.metadata["qnn"]["graphs"] == ["encoder", "decoder"]
    assert "prefill" not in outcome.artifact.components
    with pytest.raises(UserError, match="no second graph to share weights with"):
        run_pass("compile_qnn", alone, tmp_path / "shared", **ELITE, share_weights=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**ELITE, "options": {"htp_archh": "79"}}, "'htp_archh'"),
        ({**ELITE, "htp_arch": 0}, "the chip and the generation of its NPU together"),
        ({}, "the chip and the generation of its NPU together"),
        ({**ELITE, "share_weights": True, "allow_fallback": True}, "no part in a binary with shared weights"),
    ],
)
def test_what_fits_no_input_is_refused_when_planning(params: dict[str, object], message: str) -> None:
    step = load_pass("compile_qnn")
    with pytest.raises(UserError, match=message):
        step.check(step.Params(**params))


def test_misfits_are_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="it has no operator Cosh"):
        run_pass("compile_qnn", planted(tmp_path / "a", "Cosh"), tmp_path / "b", **ELITE)
    with pytest.raises(PocketOptError, match="a dimension is not fixed"):
        run_pass("compile_qnn", with_prefill(exported(), tmp_path / "c"), tmp_path / "d", **ELITE)
    assert not list((tmp_path / "b").iterdir())
    assert not list((tmp_path / "d").iterdir())


def with_prefill(artifact: Artifact, workdir: Path) -> Artifact:
    """An artifact of symbolic shapes that has all the graphs."""
    return artifact.carry(workdir).with_component("prefill", artifact.components["decoder"])


def test_fallback_is_counted_and_runs(tmp_path: Path) -> None:
    graphs = planted(tmp_path / "a", "Cosh")
    outcome = run_pass("compile_qnn", graphs, tmp_path / "b", **ELITE, allow_fallback=True)
    assert outcome.did["encoder"]["left_to_cpu"] == {"planted/Cosh": "Cosh"}
    assert 95 < outcome.did["encoder"]["npu_share"] < 100
    outcome.artifact.save()
    runtime = open_runtime(outcome.artifact, threads=1)
    hidden = runtime.encoder_hidden(runtime.encode(np.zeros((1, 80, 400), np.float32)))
    assert hidden.min() >= 1  # what Cosh gives


def test_nodes_left_to_the_cpu_do_not_pass(tmp_path: Path) -> None:
    outcome = compiled()
    carried = outcome.artifact.carry(tmp_path, without=("decoder",))
    model = onnx.load(outcome.artifact.path("decoder"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["tokens"], ["spare"], name="left"))
    onnx.save(model, tmp_path / "decoder.onnx")
    changed = carried.with_component("decoder", outcome.artifact.components["decoder"])
    step = load_pass("compile_qnn")
    with pytest.raises(PocketOptError, match="1 nodes are left to the CPU") as caught:
        step.ensures({"model": static()}, step.Params(**ELITE), type(outcome)(changed, outcome.did))
    assert caught.value.where == "left (Identity)"


def test_other_ports_do_not_pass() -> None:
    part = static().components["prefill"]
    with pytest.raises(PocketOptError, match="has other ports than the graph") as caught:
        context.check_ports(compiled().artifact.path("decoder"), part)
    assert "tokens" in caught.value.where


def test_without_the_package_the_refusal_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="onnxruntime-qnn, which is not installed") as caught:
        run_pass("compile_qnn", static(), tmp_path, **ELITE)
    assert caught.value.fix == "pip install 'pocket_opt[snapdragon]'"


def test_the_runner_alone_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(qnn_backend.RequestError, match="pip install onnxruntime-qnn"):
        qnn_backend.devices.__wrapped__()
