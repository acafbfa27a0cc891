"""The measurement on a device: what it says is what the model says here, with times, and who the device was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_devices import device_root

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation import quality
from pocket_opt.evaluation.hypotheses import Hypothesis, read_hypotheses
from pocket_opt.evaluation.on_device import PASS, OnDeviceParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute

__all__ = ["device_root"]
Measure = Callable[..., tuple[dict[str, Any], list[Hypothesis]]]


@pytest.fixture
def measure(exported: Artifact, data: Path, tmp_path: Path, device_root: Path) -> Measure:
    def run(**params: Any) -> tuple[dict[str, Any], list[Hypothesis]]:
        given = {"address": "ssh:anna@pi", "python": sys.executable, "max_new_tokens": 6, **params}
        (tmp_path / "measured").mkdir()
        settings = OnDeviceParams(data_path=str(data), **given)
        artifact = execute(PASS, {"model": exported}, settings, tmp_path / "measured").artifact
        return read_result(artifact), read_hypotheses(artifact)

    return run


@pytest.mark.parametrize("address", ["ssh:anna@pi", "adb:R5CT"])
def test_the_device_says_what_is_said_here(
    address: str, measure: Measure, exported: Artifact, data: Path, tmp_path: Path, device_root: Path
) -> None:
    table, said = measure(address=address)
    (tmp_path / "here").mkdir()
    settings = quality.QualityParams(data_path=str(data), max_new_tokens=6, batch_size=1)
    here = execute(quality.PASS, {"model": exported}, settings, tmp_path / "here").artifact
    assert [one.tokens for one in said] == [one.tokens for one in read_hypotheses(here)]
    assert table["group"] == "device"
    assert table["metrics"]["clips"]["value"] == len(said)
    assert table["metrics"]["clip_ms_p50"]["value"] > 0
    assert table["metrics"]["rtf"]["value"] > 0
    assert table["details"]["build"]
    assert set(table["details"]["versions"]) == {"onnxruntime", "numpy", "tokenizers", "soundfile"}
    assert not list(device_root.iterdir())


def test_python_may_be_several_words_and_what_a_shell_says_besides_is_passed_over(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", "greets")
    table, said = measure(limit=1, python=f"env PYTHONUTF8=1 {sys.executable}")
    assert len(said) == 1
    assert table["details"]["versions"]


@pytest.mark.parametrize(
    ("trouble", "says", "helps"),
    [
        (
            "no_python",
            "cannot run the bundle's program",
            "pip install onnxruntime numpy tokenizers soundfile",
        ),
        ("lost", "Broken pipe", "run it again"),
        ("talks", "answered for 0 of", "by hand"),
        ("hangs", "did not finish within 2 s", "raise nodes.on_device.params.call_timeout_s"),
    ],
)
def test_what_goes_wrong_there_is_told_and_nothing_stays(
    trouble: str,
    says: str,
    helps: str,
    measure: Measure,
    device_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", trouble)
    limit = {"call_timeout_s": 2.0} if trouble == "hangs" else {}
    with pytest.raises(PocketOptError) as caught:
        measure(**limit)
    assert says in caught.value.what
    assert helps in caught.value.fix
    assert not list(device_root.iterdir())
