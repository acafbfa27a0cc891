"""Compiling by Qualcomm's own programs: what they are told, what comes out, and every way in which they fail.

The SDK is a stand-in (`fake_sdk`) whose compiler is the one in onnxruntime-qnn; Qualcomm's own cannot be had here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_whisper import ELITE, planted, quantized, static
from exported_whisper import run_pass
from fake_sdk import sdk

from pocket_opt.cli.main import main
from pocket_opt.config.loading import load
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Outcome
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.runtimes import open_runtime

__all__ = ["sdk"]
GRAPHS = ("encoder", "prefill", "decoder")
BY_SDK = "nodes.compile.pass=compile_qnn_sdk"


def plan(*lines: str) -> Plan:
    own = ["target=snapdragon", "recipe=pocket_whisper", "level=MEDIUM", BY_SDK, *lines]
    return plan_variant(load(own), own)


def check_whole(outcome: Outcome, before: Any) -> None:
    """Every graph is a binary in a wrapper with its own ports, which the runner of bundles opens and runs."""
    for name in GRAPHS:
        part, did = outcome.artifact.components[name], outcome.did[name]
        wrapper = onnx.load(outcome.artifact.path(name))
        assert [node.op_type for node in wrapper.graph.node] == ["EPContext"]
        assert part.files == (f"{name}.onnx", f"{name}_qnn.bin")
        assert part.inputs == before.components[name].inputs
        assert did["cosine_to_cpu"] > 0.999
        assert did["bytes"] == outcome.artifact.size(name)
    about = outcome.artifact.metadata
    assert (about["runtime"], about["qnn"]["sdk"], about["qnn"]["chip"]) == (
        "qnn",
        "2.39.0.250926",
        "SM8750",
    )
    outcome.artifact.save()
    features = np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32)
    tokens = np.array([[301, 5, 7, 9, 11, 13]])
    npu, cpu = (open_runtime(one, threads=1) for one in (outcome.artifact, before))
    found, expected = (one.decode(tokens, one.encode(features))[0] for one in (npu, cpu))
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_float_graphs_go_by_c_plus_plus_to_binaries(sdk: Path, tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn_sdk", static(), tmp_path, **ELITE, converter="qnn")
    check_whole(outcome, static())
    converter, library, generator = outcome.did["encoder"]["commands"]
    assert converter.startswith("qnn-onnx-converter --input_network encoder.onnx --float_bitwidth 16")
    assert "--input_dim features 1,80,400" in converter
    assert "--quantization_overrides" not in converter
    assert library == "qnn-model-lib-generator -c encoder.cpp -b encoder.bin -o libs -t x86_64-linux-clang"
    assert "--backend $QNN_SDK_ROOT/lib/x86_64-linux-clang/libQnnHtp.so" in generator
    assert str(sdk) not in str(outcome.did)


@pytest.mark.nightly
def test_quantized_graphs_go_by_a_dlc_with_their_grids(sdk: Path, tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn_sdk", quantized(), tmp_path, **ELITE)
    check_whole(outcome, quantized())
    converter, generator = outcome.did["decoder"]["commands"]
    assert "--quantization_overrides decoder.encodings" in converter
    assert "--source_model_input_shape tokens 1,1" in converter
    assert converter.endswith("--preserve_io_datatype tokens position cache_mask logits")
    assert "libQnnModelDlc.so --dlc_path decoder.dlc" in generator
    assert outcome.did["decoder"]["grids"]["constants"] > 20


@pytest.mark.nightly
def test_of_a_large_encoder_few_positions_are_simulated(sdk: Path, tmp_path: Path) -> None:
    outcome = run_pass("compile_qnn_sdk", static(), tmp_path, **ELITE, simulate_below=1)
    assert outcome.did["encoder"]["checked"].startswith("72 positions of the window")
    assert outcome.did["encoder"]["cosine_to_cpu"] > 0.999
    assert outcome.did["decoder"]["checked"].startswith("loaded only")
    assert "cosine_to_cpu" not in outcome.did["decoder"]


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("fails", "Qualcomm's qairt-converter failed with exit status 1"),
        ("hangs", "Qualcomm's qairt-converter ran longer than 4 s"),
        ("silent", "said nothing of an error, and wrote no encoder.dlc"),
        ("crash", "Qualcomm's qnn-context-binary-generator failed with exit status -6"),
        ("truncated", "the context binary cannot be loaded"),
    ],
)
def test_what_goes_wrong_is_one_error_and_nothing_is_half_written(
    trouble: str, says: str, sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SDK", trouble)
    limit = {"tool_timeout_s": 4.0} if trouble == "hangs" else {}
    with pytest.raises(PocketOptError) as caught:
        run_pass("compile_qnn_sdk", static(), tmp_path / "out", **ELITE, **limit)
    assert says in caught.value.what
    assert caught.value.fix
    assert str(sdk) not in str(caught.value)
    if trouble == "fails":
        assert "| 2026-01-01 - ERROR - Node encoder.layers.0/Add: Unable to translate" in str(caught.value)
    assert not (tmp_path / "out" / "artifact.json").exists()
    assert trouble == "truncated" or not list((tmp_path / "out").glob("encoder*"))


def test_misfits_are_named_before_any_work(sdk: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="it has no operator Cosh"):
        run_pass("compile_qnn_sdk", planted(tmp_path / "a", "Cosh"), tmp_path / "b", **ELITE)
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.nightly
def test_a_failing_program_leaves_no_bundle(
    sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SDK", "fails")
    words = ["target=snapdragon", "recipe=pocket_whisper", "level=BASIC", BY_SDK, "tracking=none"]
    assert main([*words, f"output_dir={tmp_path / 'outputs'}"]) == 1
    assert "Unable to translate" in capsys.readouterr().err
    assert not list((tmp_path / "outputs").rglob("manifest.json"))


# planning


def test_it_takes_the_place_of_the_other_compiler_and_knows_the_chip(sdk: Path) -> None:
    found = plan()
    assert found.graph["compile"].params["chip"] == "SM8750"
    assert found.graph["compile"].tools["qairt"] == "2.39.0.250926"
    assert found.graph["agreement"].inputs["graphs"] == "export"
    assert plan("target.soc.vtcm_mb=4").build_key != found.build_key


def test_another_sdk_is_another_binary(sdk: Path) -> None:
    one = plan().build_key
    (sdk / "sdk.yaml").write_text("version: 2.40.0\n")
    assert plan().build_key != one


def test_a_folder_that_is_no_sdk_is_refused_when_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"it has no sdk\.yaml"):
        plan()
    monkeypatch.delenv("QNN_SDK_ROOT")
    assert main(["plan", "target=snapdragon", "level=MEDIUM", BY_SDK]) == 2
    said = capsys.readouterr().err
    assert said.count("QNN_SDK_ROOT names no SDK") == 1
    assert "https://softwarecenter.qualcomm.com" in said
    assert "nodes.compile: QNN_SDK_ROOT" in said


def test_a_converter_that_is_none_gets_the_nearest(sdk: Path) -> None:
    with pytest.raises(UserError, match="qair"):
        plan("nodes.compile.params.converter=qair")
