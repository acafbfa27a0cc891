"""A compiled model says what its graphs say; another model does not."""

from __future__ import annotations

from pathlib import Path

from compiled_whisper import compiled, static
from exported_whisper import exported

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation import quality
from pocket_opt.evaluation.agreement import PASS, AgreementParams
from pocket_opt.evaluation.hypotheses import read_hypotheses
from pocket_opt.evaluation.quality import QualityParams
from pocket_opt.evaluation.result import read_result
from pocket_opt.passes.base import execute


def measure(model: Artifact, graphs: Artifact, data: Path, workdir: Path) -> dict[str, float]:
    settings = AgreementParams(data_path=str(data), clips=2, most_tokens=6, threads=1)
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


def test_tokens_of_the_whole_evaluation_are_compared_where_they_are_known(data: Path, tmp_path: Path) -> None:
    decoding = {"data_path": str(data), "max_new_tokens": 4, "batch_size": 3}
    heard = {}
    for name, model in (("alike", static()), ("another", exported("static"))):
        (tmp_path / f"{name}-heard").mkdir()
        settings = QualityParams(**decoding)
        heard[name] = execute(quality.PASS, {"model": model}, settings, tmp_path / f"{name}-heard").artifact
    found = {}
    for name, measured in heard.items():
        (tmp_path / name).mkdir()
        settings = AgreementParams(**decoding, clips=1, most_tokens=2)
        given = {"model": static(), "graphs": static(), "quality": measured}
        found[name] = read_result(execute(PASS, given, settings, tmp_path / name).artifact)["metrics"]
    assert found["alike"]["token_agreement"]["value"] == 100
    assert found["alike"]["equal_texts"]["n"] == len(read_hypotheses(heard["alike"]))
    assert found["alike"]["equal_texts"]["value"] == 100
    assert found["another"]["token_agreement"]["value"] < 90


def test_only_the_clips_that_were_heard_are_compared(data: Path, tmp_path: Path) -> None:
    decoding = {"data_path": str(data), "max_new_tokens": 4}
    for name in ("heard", "out"):
        (tmp_path / name).mkdir()
    few = QualityParams(**decoding, limit=2)
    heard = execute(quality.PASS, {"model": static()}, few, tmp_path / "heard").artifact
    given = {"model": static(), "graphs": static(), "quality": heard}
    settings = AgreementParams(**decoding, clips=1, most_tokens=2)
    metrics = read_result(execute(PASS, given, settings, tmp_path / "out").artifact)["metrics"]
    assert metrics["equal_texts"]["value"] == 100
    assert metrics["equal_texts"]["n"] == len(read_hypotheses(heard))
