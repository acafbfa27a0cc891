"""`device=ADDRESS`: the bundle says on which device it was run; one that does not answer costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_devices import device_root

import pocket_opt
from pocket_opt.cli.main import main

__all__ = ["device_root"]
LEAN = [f"nodes.{name}.enabled=false" for name in ("latency", "memory", "profile", "parity", "quality")]


def words(tmp_path: Path) -> list[str]:
    """The default variant, on two clips."""
    given = ["device=adb:R5CT", f"device_python={sys.executable}", "data.evaluation.limit=2"]
    return [*given, *LEAN, "tracking=none", f"output_dir={tmp_path / 'outputs'}"]


def test_the_manifest_tells_device_and_build(tmp_path: Path, device_root: Path) -> None:
    manifest = pocket_opt.optimize(level="MEDIUM", overrides=words(tmp_path)).manifest
    assert manifest["verified"] == {
        "how": "native",
        "scope": "2 clips on samsung SM-S931B (SM8750), build samsung/pa1q/15/AP3A",
    }
    assert manifest["metrics"]["device"]["clips"]["value"] == 2
    assert manifest["metrics"]["device"]["rtf"]["value"] > 0
    assert not list(device_root.iterdir())


def test_a_device_that_does_not_answer_is_told_before_anything_is_built(
    tmp_path: Path, device_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", "unauthorized")
    assert main(["level=MEDIUM", *words(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "the device R5CT is unauthorized" in said
    assert "unlock the phone" in said
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").rglob("manifest.json"))


def test_what_is_no_address_is_refused_when_planning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "device=phone"]) == 2
    assert "adb:SERIAL" in capsys.readouterr().err
