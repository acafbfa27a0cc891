"""Times on hosted devices: what is submitted, what lands in the manifest, and every refusal; no network.

The real client, where its toolchain is installed, is held to the stand-in's signatures:
`POCKET_OPT_TOOLCHAINS=HOME pytest -m nightly tests/evaluation/test_on_ai_hub.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from compiled_whisper import ELITE, static
from fake_ai_hub import CLIENT, TOKEN, ai_hub
from onnx import numpy_helper

import pocket_opt
from pocket_opt.artifact import Artifact, Component
from pocket_opt.budget import check
from pocket_opt.cli.main import main
from pocket_opt.config.loading import load
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.evaluation.on_ai_hub import PASS, OnAiHubParams, _packed
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.toolchains import load_toolchain
from pocket_opt.toolchains.environments import find
from pocket_opt.variants import provide_toolchains, reach_device, verification

__all__ = ["ai_hub"]
GRAPHS = ("encoder", "prefill", "decoder")
S25 = "Samsung Galaxy S25"
ADDRESS = f"device='aihub:{S25}'"


def plan(*lines: str) -> Plan:
    own = ["target=snapdragon", "recipe=pocket_whisper", "level=BASIC", *lines]
    return plan_variant(load(own), own)


@cache
def binaries() -> Artifact:
    """An artifact that says of itself that it holds binaries; nothing here opens them."""
    root = Path(mkdtemp(prefix="binaries-"))
    parts = {}
    for name in GRAPHS:
        for file in (f"{name}.onnx", f"{name}_qnn.bin"):
            (root / file).write_bytes(b"1")
        parts[name] = Component("qnn_context", (f"{name}.onnx", f"{name}_qnn.bin"))
    about = {**ELITE, "graphs": list(GRAPHS), "share_weights": False, "allow_fallback": False}
    return Artifact(root, parts, {"qnn": about})


@pytest.fixture
def measure(ai_hub: Path) -> Callable[..., dict[str, Any]]:
    def run(model: Artifact | None = None, **params: Any) -> dict[str, Any]:
        settings = OnAiHubParams(**{"device": S25, **params})
        inputs = {"model": model or binaries(), "graphs": static()}
        (ai_hub / "out").mkdir()
        return read_result(execute(PASS, inputs, settings, ai_hub / "out").artifact)

    return run


def calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_binaries_are_timed_on_the_newest_system_of_the_device(measure: Any, ai_hub: Path) -> None:
    table = measure(options="--max_profiler_iterations 50")
    assert [call["kind"] for call in calls(ai_hub)] == ["profile"] * 3
    assert [Path(call["path"]).name for call in calls(ai_hub)] == [f"{name}_qnn.bin" for name in GRAPHS]
    assert {tuple(call["device"]) for call in calls(ai_hub)} == {(S25, "15")}
    assert {call["options"] for call in calls(ai_hub)} == {"--max_profiler_iterations 50"}
    metrics = table["metrics"]
    assert (metrics["decoder_ms_p50"]["value"], metrics["decoder_ms_p50"]["n"]) == (2.1, 4)
    assert metrics["encoder_ms_p95"]["value"] == pytest.approx(7.98)
    assert (metrics["prefill_load_ms"]["value"], metrics["prefill_peak_mb"]["value"]) == (210, 24)
    assert (metrics["npu_share"]["value"], metrics["npu_share"]["n"]) == (75, 12)
    assert "AI Hub job jp3" in metrics["decoder_ms_p50"]["method"]
    details = table["details"]
    assert (details["device"], details["build"]) == (S25, "15")
    assert details["jobs"]["encoder"] == {"profile": "jp1"}
    assert details["versions"] == {"qai-hub": "0.56.0"}
    assert TOKEN not in json.dumps(table)


def test_what_qualcomm_compiles_is_timed_beside_it(measure: Any, ai_hub: Path) -> None:
    table = measure(compile=True)
    kinds = [call["kind"] for call in calls(ai_hub)]
    assert kinds == ["profile"] * 3 + ["compile"] * 3 + ["profile"] * 3
    compiled = calls(ai_hub)[3]
    assert compiled["path"] == str(static().path("encoder"))
    assert compiled["options"] == "--target_runtime qnn_context_binary --truncate_64bit_io"
    assert table["metrics"]["theirs_decoder_ms_p50"]["value"] == 2.1
    assert table["details"]["jobs"]["theirs_encoder"] == {"profile": "jp4", "compile": "jc1"}


def test_weights_in_a_file_of_their_own_are_sent_along(tmp_path: Path) -> None:
    made, stored = tmp_path / "made", tmp_path / "stored"
    made.mkdir()
    stored.mkdir()
    ir.save(ir.load(static().path("encoder")), made / "encoder.onnx", external_data="encoder.onnx_data")
    files = ("encoder.onnx", "encoder.onnx_data")
    for name in files:
        os.link(made / name, stored / name)  # as in a store, where files have several names
    graphs = static().with_component("encoder", Component("onnx", files))
    packed = Path(_packed(Artifact(stored, graphs.components), "encoder", tmp_path))
    assert sorted(path.name for path in packed.iterdir()) == ["encoder.data", "encoder.onnx"]
    [one, other] = (onnx.load(path) for path in (packed / "encoder.onnx", static().path("encoder")))
    assert len(one.graph.node) == len(other.graph.node)
    assert {t.name: t.raw_data for t in one.graph.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in other.graph.initializer
    }


def test_the_manifest_says_which_device_and_which_jobs(measure: Any) -> None:
    found = plan(ADDRESS)
    measurements = {"on_device": measure(), "quality": {"metrics": {"clips": {"value": found.clips}}}}
    told = verification(found, measurements)
    assert told["how"] == "native"
    jobs = "encoder (job jp1), prefill (job jp2), decoder (job jp3)"
    assert told["scope"] == f"{jobs} timed on {S25}, build 15; simulator: all {found.clips} clips"


@pytest.mark.nightly
def test_a_variant_has_the_times_of_its_own_binaries(ai_hub: Path, tmp_path: Path) -> None:
    off = ("baseline.latency", "baseline.memory", "parity", "agreement", "quality")
    lines = ["target=snapdragon", ADDRESS, "tracking=none", f"output_dir={tmp_path / 'outputs'}"]
    bundle = pocket_opt.optimize(
        level="BASIC", overrides=[*lines, *(f"nodes.{name}.enabled=false" for name in off)]
    )
    manifest = bundle.manifest
    assert manifest["verified"]["how"] == "native"
    assert f"decoder (job jp3) timed on {S25}, build 15; simulator: " in manifest["verified"]["scope"]
    assert manifest["metrics"]["device"]["decoder_ms_p50"]["value"] == 2.1
    assert [Path(call["path"]).name for call in calls(ai_hub)] == [f"{name}_qnn.bin" for name in GRAPHS]
    written = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


# refusals


@pytest.mark.parametrize(
    ("trouble", "kind", "says"),
    [
        ("unauthorized", UserError, "bad or expired API token"),
        ("offline", PocketOptError, "did not answer: Internal API failure. Could not connect"),
        ("fails", PocketOptError, "profile job of prefill failed: Failed to load the context binary"),
        ("hangs", PocketOptError, "profile job of encoder did not finish in time"),
        ("no_times", PocketOptError, "the profile of encoder holds no times"),
    ],
)
def test_what_goes_wrong_there_is_one_error(
    trouble: str, kind: type[PocketOptError], says: str, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_AI_HUB", trouble)
    with pytest.raises(kind) as caught:
        measure()
    assert says in caught.value.what
    assert caught.value.fix
    assert TOKEN not in str(caught.value)
    if trouble in ("fails", "hangs", "no_times"):
        assert "https://workbench.aihub.qualcomm.com/jobs/jp" in caught.value.where


@pytest.mark.parametrize("key", ["share_weights", "allow_fallback"])
def test_only_binaries_of_one_graph_are_run(key: str, measure: Any) -> None:
    about = {**binaries().metadata["qnn"], key: True}
    with pytest.raises(PocketOptError, match="binaries of one graph each"):
        measure(Artifact(binaries().root, binaries().components, {"qnn": about}))


@pytest.mark.parametrize(
    ("name", "says", "helps"),
    [
        ("Samsung Galxy S25", "no device 'Samsung Galxy S25', did you mean 'Samsung Galaxy S25'", "aihub:"),
        ("Samsung Galaxy S24", "has an NPU of v75, and the binaries are for v79", "target"),
        ("Google Pixel 9", "has no NPU of Qualcomm's", "another device"),
    ],
)
def test_the_wrong_device_is_told_before_anything_is_built(
    name: str, says: str, helps: str, ai_hub: Path
) -> None:
    with pytest.raises(UserError) as caught:
        reach_device(plan(f"device='aihub:{name}'"))
    assert says in caught.value.what
    assert helps in caught.value.fix
    assert not (ai_hub / "calls.jsonl").exists()


def test_the_right_device_is_reached(ai_hub: Path) -> None:
    reach_device(plan(ADDRESS))


@pytest.mark.parametrize("text", [None, "[api]\n"])
def test_without_a_token_it_is_said_how_to_get_one(
    text: str | None, ai_hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = ai_hub / "other.ini"
    if text:
        token.write_text(text)
    monkeypatch.setenv("QAIHUB_CLIENT_INI", str(token))
    words = ["target=snapdragon", "recipe=pocket_whisper", "level=BASIC", ADDRESS, "tracking=none"]
    assert main([*words, f"output_dir={ai_hub / 'outputs'}"]) == 2
    said = capsys.readouterr().err
    assert "there is no token for it" in said
    assert "qai-hub configure --api_token TOKEN" in said
    assert "│" not in said
    assert not list((ai_hub / "outputs").rglob("manifest.json"))


def test_without_the_toolchain_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKET_OPT_HOME", str(tmp_path))
    with pytest.raises(UserError, match="the toolchain 'ai_hub' is not installed") as caught:
        provide_toolchains(plan(ADDRESS))
    assert "pocket-opt toolchain install ai_hub" in caught.value.fix


# planning


def test_a_plan_needs_neither_token_nor_client() -> None:
    found = plan(ADDRESS, "nodes.on_device.params.compile=true")
    node = found.graph["on_device"]
    assert (node.pass_name, node.params["device"], node.params["compile"]) == ("on_ai_hub", S25, True)
    assert node.inputs == {"model": "compile", "graphs": "export"}
    assert node.tools["ai_hub/qai-hub"] == "0.56.0"
    assert "on_device" in plan_variant(load(["level=NONE", ADDRESS]), []).off
    check({"device.decoder_ms_p95": 12.0}, PASS.limits, where="budget")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("device='aihub:'",), "no address of a device"),
        ((ADDRESS, "target=cpu"), "this target makes none"),
    ],
)
def test_what_does_not_fit_is_refused_when_planning(lines: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(*lines)


# the client

SIGNATURES = """
import inspect, json, qai_hub
of = {f"Client.{n}": getattr(qai_hub.Client, n) for n in ("__init__", "set_verbose", "get_devices", "submit_compile_job", "submit_inference_job")}
of |= {"Device": qai_hub.Device, "Job.wait": qai_hub.Job.wait, "get_target_model": qai_hub.CompileJob.get_target_model}
of |= {"download_profile": qai_hub.InferenceJob.download_profile}
print(json.dumps({name: [f"{p.name}{'' if p.default is p.empty else '='}" for p in inspect.signature(f).parameters.values()] for name, f in of.items()}))
print(json.dumps([issubclass(getattr(qai_hub, name), qai_hub.Error) for name in ("UserError", "InternalError")]))
"""


def signatures(python: str, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "FAKE_AI_HUB_LOG": ""}
    done = subprocess.run(
        [python, "-c", SIGNATURES], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.nightly
def test_the_real_client_takes_what_the_stand_in_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = os.environ.get("POCKET_OPT_TOOLCHAINS")
    if not place:
        pytest.skip("POCKET_OPT_TOOLCHAINS names no home in which the toolchain is installed")
    monkeypatch.setenv("POCKET_OPT_HOME", place)
    real = find(load_toolchain("ai_hub"))
    if real is None:
        pytest.skip("the toolchain ai_hub is not installed there")
    (tmp_path / "qai_hub.py").write_text(CLIENT)
    assert signatures(str(real.python)) == signatures(sys.executable, tmp_path)
