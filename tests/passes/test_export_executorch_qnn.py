"""Programs for Qualcomm's NPUs: refusals without the toolchain, its pins in the key, and, where it is installed, a build.

The toolchain's environment takes minutes to make, so what needs it is for `-m nightly` and for a home that has it:
`POCKET_OPT_TOOLCHAINS=HOME pytest -m nightly tests/passes/test_export_executorch_qnn.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from executorch_programs import checkpoint
from exported_whisper import exported, run_pass

from pocket_opt import api
from pocket_opt.cli.main import main
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.layers import LayerNorm
from pocket_opt.executorch_graphs.qualcomm import with_own_norms
from pocket_opt.models.whisper.checkpoint import open_checkpoint
from pocket_opt.passes import load_pass
from pocket_opt.runtimes import open_runtime
from pocket_opt.toolchains import load_toolchain

STEP = load_pass("export_executorch_qnn")
CHIP: dict[str, Any] = {"chip": "SM8750", "soc_model": 69, "htp_arch": 79, "vtcm_mb": 8}


def test_a_plan_needs_only_the_pins() -> None:
    node = api.plan(target="et_qnn", level="HIGH").graph["program"]
    assert node.tools["et_qnn/onnxruntime-qnn"] == "2.5.0"
    assert len(node.tools) == len(load_toolchain("et_qnn").pins) + len(STEP.tools)


def test_a_run_without_the_toolchain_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["level=HIGH", "target=et_qnn", "tracking=none", f"output_dir={tmp_path}"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "the toolchain 'et_qnn' is not installed" in told
    assert "pocket-opt toolchain install et_qnn" in told
    assert not list(tmp_path.iterdir())


def test_the_pass_itself_refuses_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not installed"):
        run_pass("export_executorch_qnn", checkpoint(), tmp_path / "out", **CHIP)
    with pytest.raises(PocketOptError, match="safetensors"):
        run_pass("export_executorch_qnn", exported(), tmp_path / "late", **CHIP)


def test_a_chip_is_needed() -> None:
    with pytest.raises(UserError, match="needs the chip"):
        STEP.check(STEP.Params())


def test_integers_are_calibrated() -> None:
    assert not STEP.calibrates(STEP.Params(**CHIP))
    assert STEP.calibrates(STEP.Params(**CHIP, precision="16a8w"))


def test_norms_are_those_of_the_npu_and_compute_the_same() -> None:
    own = LayerNorm(open_checkpoint(checkpoint().root), "encoder.layer_norm")
    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    changed = with_own_norms(torch.nn.Sequential(torch.nn.Sequential(own)))
    assert isinstance(changed[0][0], torch.nn.LayerNorm)  # type: ignore[index]
    torch.testing.assert_close(changed(x), own(x), atol=1e-5, rtol=1e-5)


# with the toolchain


@pytest.fixture
def toolchain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home that has it; whatever ExecuTorch would download goes to the folder that this gives, or nowhere."""
    place = os.environ.get("POCKET_OPT_TOOLCHAINS")
    if not place:
        pytest.skip("POCKET_OPT_TOOLCHAINS names no home in which the toolchain is installed")
    monkeypatch.setenv("POCKET_OPT_HOME", place)
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("QNN_STAGING_DIR", str(tmp_path / "staging"))
    return tmp_path / "staging"


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["fp16", "16a8w", "8a8w", "8a8w_linear"])
def test_the_npu_computes_encoder_and_decoder(toolchain: Path, tmp_path: Path, precision: str) -> None:
    given = {"precision": precision, "calibration_path": "sample:calibration", "calibration_clips": 2}
    outcome = run_pass("export_executorch_qnn", checkpoint(), tmp_path / "out", **CHIP, **given)
    for name in ("encoder", "decoder"):
        assert outcome.did["methods"][name]["parts"] == 1
        assert outcome.did["methods"][name]["not_delegated"] == {}
        assert outcome.did["simulated_db"][name] > 25
    assert bool(outcome.did["agreement"]) == (precision != "fp16")
    assert not toolchain.exists()
    model = open_runtime(outcome.artifact)
    [said] = model.transcribe([torch.zeros(16_000).numpy()], None)  # type: ignore[arg-type]
    assert said.tokens
