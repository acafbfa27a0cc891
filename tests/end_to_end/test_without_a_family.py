"""A recipe for an architecture without a family: from Optimum's export to a bundle that runs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimum_fixtures import bert, recipe_file, small_model, stand_in_for_optimum

import pocket_opt
from pocket_opt.bundle.validation import validate_bundle
from pocket_opt.cli.main import main
from pocket_opt.errors import UserError

QUICK = ["nodes.latency.params.max_seconds=0.2", "tracking=none"]


def run_py(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", str(bundle / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_from_a_recipe_to_a_bundle(quick_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in_for_optimum()
    recipe = recipe_file(quick_path, bert(quick_path / "model"))
    outputs = quick_path / "outputs"
    assert main([recipe, "level=HIGH", f"output_dir={outputs}", *QUICK]) == 0
    capsys.readouterr()
    [bundle] = outputs.glob("own/cpu/HIGH-*")
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    assert [node["name"] for node in manifest["nodes"] if node["kind"] == "build"] == [
        *("source", "export", "fuse", "int8", "fp16")
    ]
    assert manifest["nodes"][1]["did"]["task"] == "text-classification"
    assert manifest["assignment"]["optimum"]["family"] == "optimum"
    parity, latency = manifest["metrics"]["parity"], manifest["metrics"]["latency"]
    assert parity["model_sqnr_db"]["value"] > 15
    assert parity["model_top1_agreement"]["value"] == 100
    assert latency["model_ms_p50"]["value"] > 0
    assert latency["model_of_source"]["value"] > 0
    assert manifest["metrics"]["size"]["ratio_to_source"]["value"] < 50
    assert manifest["verified"] == {"how": "native", "scope": "executed for latency, parity; not scored"}

    findings = validate_bundle(bundle)
    assert all(finding.ok for finding in findings), findings
    assert "ran model" in next(finding.message for finding in findings if finding.check == "runs")
    assert "python run.py inputs.npz" in (bundle / "README.md").read_text()
    with pytest.raises(UserError, match=r"\(BertForSequenceClassification\) is not known to hear speech"):
        _ = pocket_opt.load(bundle).transcribe(np.zeros(100, np.float32)).text
    _check_runner(bundle, quick_path)


def _check_runner(bundle: Path, folder: Path) -> None:
    told = run_py(bundle)
    assert "input  token_type_ids int64 ['batch_size', 'sequence_length']" in told.stdout
    ids = np.array([[5, 6, 7]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    np.savez(folder / "inputs.npz", **feeds)
    done = run_py(bundle, str(folder / "inputs.npz"), "--output", str(folder / "outputs.npz"))
    assert done.returncode == 0, done.stderr
    assert np.load(folder / "outputs.npz")["logits"].shape == (1, 2)
    np.savez(folder / "wrong.npz", ids=ids)
    wrong = run_py(bundle, str(folder / "wrong.npz"))
    assert wrong.returncode == 2
    assert "takes attention_mask, input_ids, token_type_ids; the file has ids" in wrong.stderr


def test_level_none_is_the_source_model(quick_path: Path) -> None:
    recipe = recipe_file(quick_path, bert(quick_path / "model")).partition("=")[2]
    found = pocket_opt.optimize(recipe, "cpu", "NONE", [*QUICK[1:], f"output_dir={quick_path / 'outputs'}"])
    assert found.manifest["verified"]["how"] == "structural"
    assert found.manifest["metrics"]["size"]["ratio_to_source"]["value"] == 100
    assert "the arguments of its forward()" in run_py(found.path).stdout


def test_without_the_toolchain_it_is_refused_before_any_work(
    quick_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(quick_path, bert(quick_path / "model"))
    assert main([recipe, "level=BASIC", f"output_dir={quick_path / 'outputs'}", *QUICK]) == 2
    assert "pocket-opt toolchain install optimum" in capsys.readouterr().err
    assert not (quick_path / "outputs").exists()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("kind", "level", "least_db"), [("wav2vec2", "HIGH", 15), ("t5", "HIGH", 15), ("qwen2", "EXTREME", 5)]
)
def test_optimum_itself(
    kind: str, level: str, least_db: float, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`POCKET_OPT_TOOLCHAINS=HOME pytest -m nightly`, with a home in which the toolchain is installed."""
    place = os.environ.get("POCKET_OPT_TOOLCHAINS")
    if not place:
        pytest.skip("POCKET_OPT_TOOLCHAINS names no home in which the toolchain is installed")
    (Path(os.environ["POCKET_OPT_HOME"]) / "toolchains").symlink_to(Path(place) / "toolchains")
    recipe = recipe_file(quick_path, small_model(kind, quick_path / "model")).partition("=")[2]
    bundle = pocket_opt.optimize(recipe, "cpu", level, [*QUICK, f"output_dir={quick_path / 'outputs'}"])
    parity = bundle.manifest["metrics"]["parity"]
    compared = [name for name in parity if name.endswith("_sqnr_db")]
    assert compared
    assert min(parity[name]["value"] for name in compared) > least_db
    assert all(finding.ok for finding in validate_bundle(bundle.path))
