"""The choice: the faster one within the budget, the nearer one outside it, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from exported_whisper import digests, exported
from openvino_models import converted

from pocket_opt.artifact import Artifact
from pocket_opt.budget import judge
from pocket_opt.data.dataset import Dataset
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import Outcome, execute
from pocket_opt.passes.choose_fastest import PASS, ChooseFastestParams, choice

LIMIT = {"wer_delta": 1.0}


@pytest.mark.parametrize(("ratio", "winner"), [(0.5, "onnxruntime"), (1.0, "onnxruntime"), (1.5, "openvino")])
def test_without_evaluation_the_faster_one_is_passed_on(tmp_path: Path, ratio: float, winner: str) -> None:
    outcome = chosen(tmp_path, ratio)
    expected = exported() if winner == "onnxruntime" else converted()
    assert digests(outcome.artifact) == digests(expected)
    assert outcome.artifact.metadata["runtime"] == outcome.did["chosen"] == winner
    told = outcome.artifact.metadata["chosen"]
    assert told["runtime"] == winner
    assert told["race"] == {"ratio": ratio}
    assert told["why"].endswith("no budget was checked before the choice")


def test_the_faster_one_loses_outside_the_budget(tmp_path: Path) -> None:
    outcome = chosen(tmp_path, 0.5, deltas={"first": 1.4, "second": 0.2}, budget=LIMIT)
    assert digests(outcome.artifact) == digests(converted())
    told = outcome.artifact.metadata["chosen"]
    assert told["why"] == (
        "onnxruntime is faster, but outside the budget (wer_delta 1.4 over 1); openvino takes 2.00 times as long"
    )
    assert told["budget"]["onnxruntime"]["verdict"] == "over_budget"
    assert told["budget"]["openvino"]["limits"] == [
        {"metric": "wer_delta", "limit": 1.0, "value": 0.2, "verdict": "within"}
    ]


def test_the_size_counts_too(tmp_path: Path) -> None:
    sizes = sorted([exported().model_mb, converted().model_mb])
    smaller = "onnxruntime" if exported().model_mb == sizes[0] else "openvino"
    ratio = 2.0 if smaller == "onnxruntime" else 0.5
    outcome = chosen(tmp_path, ratio, budget={"size_mb": sum(sizes) / 2})
    assert outcome.did["chosen"] == smaller


@pytest.mark.parametrize(
    ("first", "second", "ratio", "winner", "said"),
    [
        (0.1, 0.9, 2.0, "b", "it takes 0.50 of the time of a; both are within the budget"),
        (1.4, 0.9, 2.0, "b", "it takes 0.50 of the time of a, which is outside the budget"),
        (3.0, 2.0, 0.5, "b", "both are outside the budget, and it is nearer (wer_delta 2 over 1; a: wer_del"),
        (2.0, 2.0, 0.5, "a", "both are outside the budget, and it is nearer"),
        (None, 0.1, 0.5, "a", "no budget was checked"),
        (None, 1.1, 2.0, "a", "b is faster, but outside the budget"),
    ],
)
def test_every_case(first: float | None, second: float, ratio: float, winner: str, said: str) -> None:
    verdicts = {"a": verdict(first), "b": verdict(second)}
    found, why = choice(ratio, verdicts)
    assert found == winner
    assert said in why


def test_beyond_a_limit_of_zero_nothing_is_near() -> None:
    verdicts = {name: verdict(delta, limit=0.0) for name, delta in (("a", 0.1), ("b", 5.0))}
    assert choice(2.0, verdicts)[0] == "b"  # as far as the other one, and faster


def verdict(delta: float | None, limit: float = 1.0) -> Mapping[str, Any]:
    metrics = {} if delta is None else {"quality": {"wer_delta": {"value": delta}}}
    return judge({"wer_delta": limit}, metrics)


def chosen(
    root: Path, ratio: float, *, deltas: Mapping[str, float] | None = None, budget: Mapping[str, float] = {}
) -> Outcome:
    """What is chosen between the small model for ONNX Runtime and for OpenVINO."""
    told = {"first": "onnxruntime", "second": "openvino"}
    inputs = {
        "first": exported(),
        "second": converted(),
        "race": measured(root / "race", {"ratio": ratio}, told),
    }
    for edge, delta in (deltas or {}).items():
        inputs[f"{edge}_quality"] = measured(root / f"{edge}_quality", {"wer": 3 + delta})
        inputs[f"{edge}_degradation"] = measured(root / f"{edge}_degradation", {"wer_delta": delta})
    (root / "chosen").mkdir()
    return execute(PASS, inputs, ChooseFastestParams(budget), root / "chosen")


def measured(place: Path, values: Mapping[str, float], details: Mapping[str, Any] | None = None) -> Artifact:
    place.mkdir()
    metrics = {name: Metric(value, "", 3, "as the test says") for name, value in values.items()}
    return write_result(place, "group", metrics, details or {}).artifact


def test_the_sample_model_wrecked_for_one_runtime_is_heard(tmp_path: Path) -> None:
    """Real models, real errors: two bits a weight break ONNX Runtime's model, however fast it is."""
    teacher = Path(__file__).parents[2] / "pocket_opt" / "sample" / "teacher"
    source = made("load_source", {}, tmp_path / "source", path=str(teacher), digest="")
    onnx = made("export_onnx", {"model": source}, tmp_path / "onnx")
    models = {
        "first": made(
            "weight_only",
            {"model": onnx},
            tmp_path / "first",
            components=("decoder",),
            bits=2,
            block_size=256,
        ),
        "second": made("convert_openvino", {"model": onnx}, tmp_path / "second"),
    }
    clips = Dataset.open("sample:evaluation")
    asked = {"data_path": str(clips.source), "data_digest": clips.digest(), "limit": 4, "threads": 1}
    baseline = made("quality", {"model": onnx}, tmp_path / "baseline", **asked)
    told = {"first": "onnxruntime", "second": "openvino"}
    inputs = {**models, "race": measured(tmp_path / "race", {"ratio": 0.5}, told)}
    for edge, model in models.items():
        quality = made("quality", {"model": model}, tmp_path / f"{edge}_quality", **asked)
        compared = {"quality": quality, "baseline": baseline}
        inputs |= {
            f"{edge}_quality": quality,
            f"{edge}_degradation": made("degradation", compared, tmp_path / f"{edge}_degradation"),
        }
    found = made("choose_fastest", inputs, tmp_path / "chosen", budget=LIMIT)
    assert found.metadata["runtime"] == "openvino"
    assert found.metadata["chosen"]["why"].startswith(
        "onnxruntime is faster, but outside the budget (wer_delta"
    )


def made(name: str, inputs: Mapping[str, Artifact], workdir: Path, **params: Any) -> Artifact:
    workdir.mkdir()
    step = load_pass(name)
    return execute(step, inputs, step.Params(**params), workdir).artifact
