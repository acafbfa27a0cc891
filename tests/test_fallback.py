"""`bundle.with_fallback`: the same model for the CPU beside that for the NPU, planned, made and told by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from whisper_fixtures import tiny_checkpoint

from pocket_opt import optimize
from pocket_opt.bundle import find_bundles, read_manifest
from pocket_opt.bundle.schema import schema_errors
from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.config.loading import load
from pocket_opt.errors import UserError
from pocket_opt.planner import Plan, plan_variant

NPU = ("target=snapdragon", "bundle.with_fallback=true")
UNMEASURED = [f"~nodes.{name}" for name in ("latency", "memory", "profile", "parity", "agreement")]


def plan(*lines: str) -> Plan:
    return plan_variant(load(lines), lines)


def beside(*lines: str) -> Plan:
    found = plan(*NPU, *lines).fallback
    assert found is not None
    return found


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert plan("target=snapdragon").fallback is None
    assert plan("target=snapdragon").keys == plan(*NPU).keys


@pytest.mark.parametrize("level", ["BASIC", "MEDIUM", "HIGH", "EXTREME"])
def test_it_is_the_variant_that_the_cpu_has_of_that_level(level: str) -> None:
    found, alone = beside(f"level={level}"), plan("target=cpu", "decoder=static", f"level={level}")
    assert found.keys == alone.keys
    assert found.row_key == alone.row_key
    assert found.overrides == ("decoder=static",)
    assert found.fallback is None


def test_it_has_the_same_layout_and_the_measurements_that_were_asked_for() -> None:
    lines = ("bundle.layout=android", "~nodes.latency", "data.evaluation.limit=7", "target.threads=2")
    found = beside(*lines)
    assert found.graph["layout"].params == {"target": "cpu", "fallback": ""}
    assert found.off["latency"] == "switched off by you"
    assert found.graph["quality"].params["limit"] == 7
    assert found.config.target.threads == 2
    assert found.overrides == (
        "bundle.layout=android",
        "data.evaluation.limit=7",
        "decoder=static",
        "~nodes.latency",
    )
    outer = plan(*NPU, *lines)
    assert outer.graph["layout"].params == {"target": "sd8elite", "fallback": found.build_key}


def test_what_is_said_about_passes_and_the_device_is_the_npus() -> None:
    lines = ("nodes.compile.params.optimization=1", "nodes.qdq.params.embedding=8", "device=ssh:phone")
    found = beside(*lines)
    assert found.keys == beside().keys
    assert found.config.device is None
    assert "on_device" in plan(*NPU, *lines).graph


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (("target=cpu",), "the target cpu is for this machine's processor already"),
        (("target=snapdragon", "level=NONE"), "the level NONE is for this machine's processor already"),
    ],
)
def test_where_nothing_falls_back_it_is_refused(lines: tuple[str, ...], what: str) -> None:
    with pytest.raises(UserError) as raised:
        plan(*lines, "bundle.with_fallback=true")
    assert what in raised.value.what
    assert raised.value.where == "bundle.with_fallback"


def test_one_bundle_encloses_the_other(tmp_path: Path) -> None:
    model, outputs = tmp_path / "model", tmp_path / "outputs"
    tiny_checkpoint(model, encoder_layers=1, decoder_layers=1)
    own = [
        f"recipe.model.path={model}",
        "recipe.data.evaluation=null",
        "bundle.layout=android",
        "bundle.with_fallback=true",
        f"output_dir={outputs}",
        "tracking=none",
    ]
    bundle = optimize(target="snapdragon", level="BASIC", overrides=[*own, *UNMEASURED])
    inner = bundle.path / "fallback"
    told, manifest = bundle.manifest["fallback"], read_manifest(inner)
    assert not schema_errors(bundle.manifest)
    assert (told["path"], told["target"], told["level"]) == ("fallback", "cpu", "BASIC")
    assert told["identities"] == manifest["identities"]
    assert told["metrics"] == manifest["metrics"]
    assert {path.name for path in (inner / "assets" / "whisper_cpu").iterdir()} >= {
        "encoder.onnx",
        "mel.onnx",
    }
    for place in (bundle.path, inner):
        assert [finding for finding in validate_bundle(place) if not finding.ok] == []
    listed = {row["path"] for row in bundle.manifest["files"]}
    assert "fallback/manifest.json" in listed
    assert "### Without the NPU: `fallback`" in (bundle.path / "README.md").read_text()
    alone = [path for path in find_bundles([outputs]) if read_manifest(path)["target"] == "cpu"]
    assert len(find_bundles([outputs])) == 2
    assert read_manifest(alone[0])["identities"] == manifest["identities"]
