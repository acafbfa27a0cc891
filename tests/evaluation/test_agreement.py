"""A compiled model says what its graphs say; another model does not."""

from __future__ import annotations

from pathlib import Path

from compiled_whisper import compiled, static
from exported_whisper import exported

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.agreement import PASS, AgreementParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def measure(model: Artifact, graphs: Artifact, data: Path, workdir: Path) -> dict[str, float]:
    settings = AgreementParams(data_path=str(data), clips=2, max_new_tokens=6, threads=1)
    table = read_result(execute(PASS, {"model": model, "graphs": graphs}, settings, workdir).artifact)
    assert table["details"] == {"against": "the same graphs in ONNX Runtime on the CPU"}
    assert "one graph" not in table["metrics"]["token_agreement"]["method"]
    return {name: metric["value"] for name, metric in table["metrics"].items()}


def test_a_compiled_model_agrees_with_its_graphs(data: Path, tmp_path: Path) -> None:
    found = measure(compiled().artifact, static(), data, tmp_path)
    assert found["mel_max_error"] == 0
    assert found["encoder_cosine"] > 0.999
    assert found["logits_sqnr_db"] > 25
    assert found["token_agreement"] > 90


def test_another_model_does_not(data: Path, tmp_path: Path) -> None:
    found = measure(exported("static"), static(), data, tmp_path)
    assert found["encoder_cosine"] < 0.99
    assert found["token_agreement"] < 90
