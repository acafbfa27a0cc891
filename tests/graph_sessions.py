"""Exported graphs of small random checkpoints, run through ONNX Runtime beside `transformers`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import WhisperForConditionalGeneration
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute

Feeds = dict[str, np.ndarray]
torch.set_num_threads(1)


@cache
def source(**shape: Any) -> Artifact:
    return tiny_checkpoint(Path(mkdtemp(prefix="source-")), **shape)


@cache
def exported(decoder: str = "kv_cache", **shape: Any) -> Artifact:
    step = load_pass("export_onnx")
    workdir = Path(mkdtemp(prefix="exported-"))
    return execute(step, {"model": source(**shape)}, step.Params(decoder=decoder), workdir).artifact


@cache
def reference(**shape: Any) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(source(**shape).root).eval()


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def run(session: onnxruntime.InferenceSession, feeds: Feeds) -> Feeds:
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def random_features(batch: int, mels: int = 80, frames: int = 400) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, mels, frames)).astype(np.float32)


def random_tokens(batch: int, length: int, vocab: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, vocab, (batch, length))


def no_past(artifact: Artifact, batch: int) -> Feeds:
    """An empty cache."""
    dims = artifact.metadata["dims"]
    heads = dims["decoder_heads"]
    empty = np.zeros((batch, heads, 0, dims["d_model"] // heads), np.float32)
    return {
        f"past_{kind}_{layer}": empty for layer in range(dims["decoder_layers"]) for kind in ("key", "value")
    }


def stepwise_logits(
    artifact: Artifact, features: np.ndarray, tokens: np.ndarray, cuts: tuple[int, ...]
) -> np.ndarray:
    """Logits [batch, length, vocab] of `tokens` given in pieces of the lengths `cuts`, through the cache."""
    encoded = run(open_session(artifact.path("encoder")), {"features": features})
    cross = {name: value for name, value in encoded.items() if name.startswith("cross")}
    session, past = open_session(artifact.path("decoder")), no_past(artifact, len(tokens))
    logits, begin = [], 0
    for length in cuts:
        found = run(session, {"tokens": tokens[:, begin : begin + length], **cross, **past})
        logits.append(found.pop("logits"))
        past = {name.replace("present", "past"): value for name, value in found.items()}
        begin += length
    return np.concatenate(logits, axis=1)


def reference_logits(
    model: WhisperForConditionalGeneration, features: np.ndarray, tokens: np.ndarray
) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(features), decoder_input_ids=torch.from_numpy(tokens)).logits.numpy()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest magnitude."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
