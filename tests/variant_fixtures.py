"""Variants as the pipeline would hand them over, with small files in place of models and plausible numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.bundle.manifest import build_manifest
from pocket_opt.results import FailureRecord, NodeRecord, VariantRecord

LEVELS = ("NONE", "BASIC", "MEDIUM", "HIGH", "EXTREME")
SIZES = {"NONE": 400_000, "BASIC": 404_000, "MEDIUM": 204_000, "HIGH": 112_000, "EXTREME": 61_000}
WERS = {"NONE": 3.42, "BASIC": 3.42, "MEDIUM": 3.42, "HIGH": 3.71, "EXTREME": 5.93}
SPEED = {"NONE": 4.1, "BASIC": 1.0, "MEDIUM": 1.02, "HIGH": 0.62, "EXTREME": 0.48}
MEMORY = {"NONE": 612.0, "BASIC": 118.0, "MEDIUM": 117.0, "HIGH": 104.0, "EXTREME": 97.0}
DECODING = {
    "language": None,
    "task": "transcribe",
    "timestamps": False,
    "batch_size": 8,
    "max_new_tokens": None,
    "beams": 1,
    "length_penalty": 1.0,
    "fallback": True,
    "condition_on_previous": False,
}
DIMS = {"d_model": 128, "encoder_layers": 3, "decoder_layers": 2, "mels": 80, "vocab": 602, "window_s": 4.0}


@dataclass(frozen=True)
class Made:
    """What write_bundle takes."""

    variant: VariantRecord
    artifact: Artifact
    measurements: dict[str, Artifact]


def key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def metric(value: float, unit: str, n: int = 226, method: str = "as the test says") -> dict[str, Any]:
    return {"value": value, "unit": unit, "n": n, "method": method}


def result(group: str, metrics: dict[str, Any], **details: Any) -> dict[str, Any]:
    return {"group": group, "metrics": metrics, "details": details}


def quality(level: str, worse: float = 0.0) -> dict[str, Any]:
    wer = WERS[level] + worse
    table = {
        "wer": metric(wer, "%"),
        "wer_ci_low": metric(wer - 0.9, "%"),
        "wer_ci_high": metric(wer + 1.1, "%"),
        "cer": metric(0.6 * wer, "%"),
        "clips": metric(226, "clips"),
    }
    return result("quality", table, decoding={"task": "transcribe"})


def latency(level: str, factor: float = 1.0) -> dict[str, Any]:
    speed = factor * SPEED[level]
    times = {"mel_ms": 1.1, "encoder_ms": 4.2, "first_token_ms": 1.6, "per_token_ms": 0.8, "total_ms": 31.0}
    table = {f"{name}_p50": metric(speed * value, "ms", 40) for name, value in times.items()}
    table |= {f"{name}_p95": metric(1.2 * speed * value, "ms", 40) for name, value in times.items()}
    table |= {"rtf_p50": metric(speed * 0.031 / 4, "", 40), "load_s_p50": metric(0.2 * speed, "s", 3)}
    return result("latency", table, repeats=40)


def profile() -> dict[str, Any]:
    table = {"phase_encoder": metric(41.0, "%", 3), "phase_step": metric(59.0, "%", 3)}
    details = {
        "by_phase_ms": {"mel": 1.1, "encoder": 4.2, "prefill": 1.6, "step": 25.1},
        "by_operator_type_ms": {"MatMul": 18.0, "Softmax": 2.0},
        "slowest_nodes": [{"name": "encoder.layers.0.fc1/MatMul", "ms": 0.8, "share": 2.6}],
    }
    return result("profile", table, **details)


def measurements_of(level: str, worse: float, factor: float, weights: str) -> dict[str, dict[str, Any]]:
    found = {
        "latency": latency(level, factor),
        "memory": result("memory", {"peak_mb": metric(factor * MEMORY[level], "MB", 3)}),
        "profile": profile(),
    }
    if level != "NONE":
        found["baseline.latency"] = latency("NONE")
        found["baseline.memory"] = result("memory", {"peak_mb": metric(MEMORY["NONE"], "MB", 3)})
        found["parity"] = result(
            "parity", {"encoder_cosine": metric(0.9993, "", 8), "logits_sqnr_db": metric(38.0, "dB", 8)}
        )
    if weights == "pretrained":
        found["quality"] = quality(level, worse)
        if level != "NONE":
            delta = {
                "wer_delta": metric(WERS[level] + worse - WERS["NONE"], "points"),
                "tokens_equal": metric(97.8, "%"),
            }
            found["baseline.quality"] = quality("NONE")
            found["degradation"] = result("quality", delta, changed_clips=[])
    return found


def make_artifact(root: Path, level: str) -> Artifact:
    """A model of `SIZES[level]` bytes with the components of the contract, files read-only as in the store."""
    root.mkdir(parents=True, exist_ok=True)
    settings = {"config.json": {"d_model": 128}, "generation_config.json": {"eos_token_id": 429}}
    for name, table in {**settings, "tokenizer.json": {"model": {}}, "preprocessor_config.json": {}}.items():
        (root / name).write_text(json.dumps(table))
    processor = Component("processor", ("tokenizer.json", "preprocessor_config.json"))
    if level == "NONE":
        names = {"model": ("transformers", "model.safetensors", 1.0)}
    else:
        names = {
            "mel": ("onnx", "mel.onnx", 0.05),
            "encoder": ("onnx", "encoder.onnx", 0.5),
            "decoder": ("onnx", "decoder.onnx", 0.45),
        }
    for part, (_, file, share) in names.items():
        (root / file).write_bytes(key(part, level).encode() * (int(SIZES[level] * share) // 64))
    ports = (
        (Port("features", "float32", ("batch", 80, 400)),),
        (Port("encoder_hidden", "float32", ("batch", 200, 128)),),
    )
    components = {
        part: Component(form, (file,), *(ports if part == "encoder" else ()))
        for part, (form, file, _) in names.items()
    }
    components |= {
        "generation": Component("json", ("generation_config.json", "config.json")),
        "processor": processor,
    }
    for path in root.iterdir():
        path.chmod(0o444)
    runtime = "transformers" if level == "NONE" else "onnxruntime"
    metadata = {"family": "whisper", "runtime": runtime, "weights": "pretrained", "dims": DIMS}
    return Artifact(root, components, metadata).save()


def node(
    name: str, level: str, kind: str = "build", before: int = 0, after: int = 0, **params: Any
) -> NodeRecord:
    inputs = () if name == "source" else ("source",)
    return NodeRecord(
        name,
        f"{name}_pass",
        1,
        kind,
        params,
        inputs,
        key(name, level),
        "run",
        1.25,
        before,
        after,
        {"tensors": 12},
    )  # type: ignore[arg-type]


def nodes_of(level: str, data_digest: str) -> tuple[NodeRecord, ...]:
    chain = [node("source", "all", after=SIZES["NONE"], digest="0" * 64)]
    if level != "NONE":
        chain.append(node("export", "all", before=SIZES["NONE"], after=SIZES["BASIC"], decoder="kv_cache"))
        chain.append(node("quantize", level, before=SIZES["BASIC"], after=SIZES[level], bits=8, block=32))
    chain.append(node("quality", level, "measure", data_digest=data_digest, limit=None, **DECODING))
    return (*chain, node("latency", level, "measure", warmup=2))


def make(
    root: Path,
    level: str = "HIGH",
    *,
    recipe: str = "pocket_whisper",
    target: str = "cpu",
    overrides: tuple[str, ...] = (),
    worse: float = 0.0,
    factor: float = 1.0,
    weights: str = "pretrained",
    budget: dict[str, float] | None = None,
    data_digest: str = "d" * 64,
    **changes: Any,
) -> Made:
    """A variant, its artifact and its measurements below `root`."""
    results = measurements_of(level, worse, factor, weights)
    config = {
        "recipe": {
            "name": recipe,
            "model": {"path": "sample:teacher"},
            "data": {"evaluation": "sample:evaluation"},
        },
        "level": {"name": level, "intents": {"weights": "int8"}},
        "decoder": {"name": "kv_cache"},
        "decoding": {"name": "greedy", **DECODING},
        "data": {"evaluation": {"path": None, "limit": None}},
        "tracking": {
            "name": "mlflow",
            "uri": "https://anna:hunter2@mlflow.example.org/x",
            "upload_models": False,
        },
        "output_dir": "/home/anna/experiments",
    }
    fields: dict[str, Any] = {
        "recipe": recipe,
        "target": target,
        "level": level,
        "level_rank": LEVELS.index(level),
        "overrides": overrides,
        "build_key": key("build", recipe, target, level, overrides),
        "measurement_key": key("measurement", recipe, target, level, overrides),
        "row_key": key("row", recipe, target, level, overrides),
        "config": config,
        "components": {"whisper": {"family": "whisper", "target": target, "level": level}},
        "nodes": nodes_of(level, data_digest),
        "measurements": results,
        "budget": {"wer_delta": 1.0} if budget is None and level != "NONE" else budget or {},
        "verified": {"how": "native", "scope": "all 226 clips"},
        "license": "Apache-2.0",
        "weights": weights,
        "seed": 0,
        "sources": {"source": {"sha256": "0" * 64}},
    }
    artifact = make_artifact(root / "model", level)
    return Made(VariantRecord(**{**fields, **changes}), artifact, make_measurements(root, results))


def manifest(root: Path, level: str = "HIGH", **changes: Any) -> dict[str, Any]:
    """The manifest of a variant that `make` makes."""
    made = make(root, level, **changes)
    return build_manifest(made.variant, made.artifact, [{"path": "mel.onnx", "size": 3, "sha256": "0" * 64}])


def make_measurements(root: Path, results: dict[str, dict[str, Any]]) -> dict[str, Artifact]:
    """The store's artifacts of the measurements; quality with hypotheses."""
    made = {}
    for name, table in results.items():
        place = root / "measured" / name
        place.mkdir(parents=True, exist_ok=True)
        files = ["result.json"]
        (place / "result.json").write_text(json.dumps(table))
        if table["group"] == "quality" and "wer" in table["metrics"]:
            files.append("hypotheses.jsonl")
            said = {"id": "en-clean-000.flac", "task": "transcribe", "language": "en", "tokens": [1, 2, 3]}
            (place / "hypotheses.jsonl").write_text(json.dumps(said) + "\n")
        made[name] = Artifact(place, {"result": Component("json", tuple(files))})
    return made


def failure(level: str = "EXTREME", recipe: str = "pocket_whisper", target: str = "cpu") -> FailureRecord:
    reason = "node 'quantize' (pass weight_only) failed: no constant weight\n  next:    <switch> it off"
    return FailureRecord(
        recipe,
        target,
        level,
        LEVELS.index(level),
        (),
        key("row", recipe, target, level, ()),
        "quantize",
        reason,
    )
