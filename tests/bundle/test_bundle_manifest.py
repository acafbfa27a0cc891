"""The manifest: its schema, what it says, and that old ones stay readable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from variant_fixtures import key, make

from pocket_opt.bundle import manifest as bundle_manifest
from pocket_opt.bundle import metric_value, read_manifest, write_bundle
from pocket_opt.bundle.card import card
from pocket_opt.bundle.manifest import SCHEMA_VERSION, build_manifest, upgrade, without_times
from pocket_opt.bundle.schema import manifest_schema, schema_errors
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.report import flat
from pocket_opt.report.rows import make_rows
from pocket_opt.results import VariantRecord

GOLDEN = Path(__file__).parent / "manifest_v1.json"
FILES = [{"path": "mel.onnx", "size": 3, "sha256": "0" * 64}]


def built(root: Path, level: str = "HIGH", **changes: Any) -> dict[str, Any]:
    made = make(root, level, **changes)
    return build_manifest(made.variant, made.artifact, FILES)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_the_golden_manifest_of_every_version_is_readable(tmp_path: Path, version: int) -> None:
    text = GOLDEN.with_name(f"manifest_v{version}.json").read_text(encoding="utf-8")
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    manifest = read_manifest(tmp_path)
    assert schema_errors(manifest) == []
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert metric_value(manifest, "quality", "wer") == 3.71
    assert metric_value(manifest, "quality", "absent") is None
    [row] = make_rows([manifest])
    assert (row.level, row.verdict, row.values["size_mb"]) == ("HIGH", "within", 0.111936)
    assert "nodes.quantize.params.bits=8" in card(manifest)
    assert flat.metrics(manifest)["latency/rtf_p50"] == 0.004805


def test_the_schema_is_itself_valid_and_closed() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(manifest_schema())
    manifest = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {*manifest, "fallback"} == set(manifest_schema()["properties"])  # which few bundles enclose
    assert schema_errors({**manifest, "surprise": 1}) == [
        "manifest: Additional properties are not allowed ('surprise' was unexpected)"
    ]


@pytest.mark.parametrize(
    ("place", "value", "where"),
    [
        (("metrics", "quality", "wer", "unit"), None, "metrics/quality/wer/unit"),
        (("metrics", "size"), {}, "metrics/size: 'total_mb' is a required property"),
        (("identities", "row"), "short", "identities/row"),
        (("files", 0, "path"), "/etc/passwd", "files/0/path"),
        (("files", 0, "path"), "../x", "files/0/path"),
        (("verified", "how"), "believed", "verified/how"),
        (("nodes", 0, "kind"), "magic", "nodes/0/kind"),
        (("budget", "verdict"), "fine", "budget/verdict"),
    ],
)
def test_the_schema_finds_mistakes(place: tuple[Any, ...], value: Any, where: str) -> None:
    manifest = json.loads(GOLDEN.read_text(encoding="utf-8"))
    table = manifest
    for step in place[:-1]:
        table = table[step]
    table[place[-1]] = value
    [problem] = schema_errors(manifest)
    assert problem.startswith(where)


def test_everything_of_the_variant_is_in_it(tmp_path: Path) -> None:
    manifest = built(tmp_path, overrides=("decoder=basic",))
    assert schema_errors(manifest) == []
    assert manifest["identities"]["build"] == key(
        "build", "pocket_whisper", "cpu", "HIGH", ("decoder=basic",)
    )
    assert manifest["assignment"] == {"whisper": {"family": "whisper", "target": "cpu", "level": "HIGH"}}
    assert [node["name"] for node in manifest["nodes"]] == [
        "source",
        "export",
        "quantize",
        "quality",
        "latency",
    ]
    assert manifest["nodes"][2]["params"] == {"bits": 8, "block": 32}
    assert list(manifest["metrics"]) == ["quality", "size", "latency", "memory", "parity", "profile"]
    assert manifest["baseline"]["quality"]["wer"]["value"] == 3.42
    assert manifest["metrics"]["quality"]["wer_delta"]["value"] == pytest.approx(0.29)
    assert manifest["details"]["profile"]["by_phase_ms"]["step"] == 25.1
    assert manifest["tools"]["onnxruntime"]
    assert manifest["host"]["cores"] >= 1
    assert len(manifest["git"]["commit"]) == 40


def test_it_holds_no_path_and_no_password(tmp_path: Path) -> None:
    text = json.dumps(built(tmp_path, overrides=("data.evaluation.path=/home/anna/clips",)))
    for secret in ("anna", "hunter2", str(tmp_path), "/home"):
        assert secret not in text
    assert "https://mlflow.example.org/x" in text
    assert "data.evaluation.path=<path>" in text


def test_labels_say_what_the_numbers_are_of(tmp_path: Path) -> None:
    def labels(**changes: Any) -> list[str]:
        record: VariantRecord = replace(make(tmp_path).variant, **changes)
        return bundle_manifest.labels(record)

    synthetic = [bundle_manifest.SYNTHETIC_SAMPLE, bundle_manifest.SYNTHETIC_DATA]
    assert labels() == synthetic
    assert labels(weights="random") == [bundle_manifest.RANDOM_WEIGHTS]
    own = {**make(tmp_path).variant.config, "data": {"evaluation": {"path": "clips"}}}
    assert labels(config=own) == synthetic[:1]
    assert labels(config={}) == []


def test_random_weights_have_no_error_rate(tmp_path: Path) -> None:
    manifest = built(tmp_path, weights="random")
    assert "quality" not in manifest["metrics"]
    assert manifest["budget"] == {
        "verdict": "no_budget",
        "limits": [{"metric": "wer_delta", "limit": 1.0, "verdict": "not_measured"}],
    }
    assert "random weights: for speed, size and parity only, no WER" in card(manifest)


def test_only_the_time_differs_between_two_writings(tmp_path: Path) -> None:
    one, other = built(tmp_path), built(tmp_path)
    assert without_times(one) == without_times(other)
    assert "created" in one


def test_a_newer_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=f"schema version {SCHEMA_VERSION + 1}, this installation reads up to"
    ):
        upgrade({"schema_version": SCHEMA_VERSION + 1}, tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"schema_version": "1"}', '{"schema_version": 0}', "\xff"]
)
def test_a_damaged_manifest_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PocketOptError, match="the manifest is damaged"):
        read_manifest(tmp_path)


def test_older_versions_go_through_every_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_manifest, "SCHEMA_VERSION", 3)
    steps = {1: lambda table: {**table, "two": 2}, 2: lambda table: {**table, "schema_version": 3}}
    monkeypatch.setattr(bundle_manifest, "UPGRADES", steps)
    assert upgrade({"schema_version": 1}, tmp_path) == {"schema_version": 3, "two": 2}


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_manifest, "git_state", lambda: None)
    made = make(tmp_path / "store")
    assert "git" not in write_bundle(made.variant, made.artifact, tmp_path / "HIGH").manifest
