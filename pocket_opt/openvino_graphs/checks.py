"""What a converted or compressed component must still satisfy: it answers like the one that it was made from.

Both are run on the same random inputs, the decoder on a batch of two and in two calls, so that its caches are used.
OpenVINO computes in 32 bits here, whatever the artifact asks for later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.checks import COMPARE_BELOW, open_session
from pocket_opt.onnx_graphs.files import Array, sqnr_db
from pocket_opt.openvino_graphs.attention import CROSS_VALUE
from pocket_opt.openvino_graphs.files import FORMAT, read
from pocket_opt.openvino_graphs.states import BEAMS, PAST, PRESENT

BATCH, PROMPT = 2, 3
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
Feeds = Mapping[str, Array]


def require_agreement(
    before: Artifact, after: Artifact, components: Sequence[str], *, least_db: float
) -> dict[str, float]:
    """SQNR in dB of every component against its predecessor; those too large to be run twice are only compiled.

    Raises:
        PocketOptError: it is below `least_db`, or an answer is not finite.
    """
    levels = {}
    for name in components:
        if before.size(name) > COMPARE_BELOW:
            _compile(after.path(name))
            continue
        expected, found = answers(before, name), answers(after, name)
        levels[name] = min(sqnr_db(expected[key], found[key]) for key in expected)
        if not levels[name] >= least_db:
            raise PocketOptError(
                f"component '{name}' no longer agrees with its input: SQNR {levels[name]:.1f} dB on random inputs",
                allowed=f"at least {least_db:.0f} dB",
                fix="report this with the model's shapes: the rewrite is wrong, not only inexact",
            )
    return levels


def answers(artifact: Artifact, name: str) -> dict[str, Array]:
    """What `name` answers to random inputs, values of the cross-attention in OpenVINO's layout."""
    dims, random = artifact.metadata["dims"], np.random.default_rng(0)
    run = _Ir(artifact.path(name)) if artifact.components[name].format == FORMAT else _Onnx(artifact, name)
    if name == "mel":
        samples = round(0.7 * dims["window_s"] * dims["sample_rate"])
        return run({"audio": random.standard_normal((BATCH, samples)).astype(np.float32) / 10})
    if name == "encoder":
        shape = (1, dims["mels"], 2 * dims["source_positions"])
        return run({"features": random.standard_normal(shape).astype(np.float32)})
    tokens = random.integers(0, dims["vocab"], (BATCH, PROMPT + 1))
    context = _context(dims, random, cached=artifact.metadata["decoder"] == "kv_cache")
    first = run({**context, "tokens": tokens[:, :PROMPT]})["logits"]
    fed = tokens[:, PROMPT:] if artifact.metadata["decoder"] == "kv_cache" else tokens
    return {"prefill": first, "step": run({**context, "tokens": fed})["logits"]}


def _context(dims: Mapping[str, Any], random: np.random.Generator, *, cached: bool) -> dict[str, Array]:
    """What a decoder reads of the encoder."""
    positions, width, heads = dims["source_positions"], dims["d_model"], dims["decoder_heads"]
    if not cached:
        return {"encoder_hidden": random.standard_normal((BATCH, positions, width)).astype(np.float32)}
    shape = (BATCH, heads, positions, width // heads)
    return {
        f"cross_{kind}_{layer}": random.standard_normal(shape).astype(np.float32)
        for layer in range(dims["decoder_layers"])
        for kind in ("key", "value")
    }


class _Ir:
    """An OpenVINO model that is called like a function and keeps its states."""

    def __init__(self, path: Path) -> None:
        self._request = _compile(path).create_infer_request()

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        names = {min(port.get_names()) for port in self._request.model_inputs}
        given = {name: _swapped(name, array) for name, array in feeds.items()}
        if BEAMS in names:
            given[BEAMS] = np.arange(BATCH, dtype=np.int32)
        found = self._request.infer(given)
        return {min(port.get_names()): np.array(array) for port, array in found.items()}


class _Onnx:
    """An ONNX graph that is called like a function; what it gives as present, it is fed as past."""

    def __init__(self, artifact: Artifact, name: str) -> None:
        self._session = open_session(artifact, name)
        self._past: dict[str, Array] = {}

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        for port in self._session.get_inputs():
            if port.name.startswith(PAST) and port.name not in self._past:
                empty = np.zeros((BATCH, port.shape[1], 0, port.shape[3]), np.float32)
                self._past[port.name] = empty
        names = [port.name for port in self._session.get_outputs()]
        found = dict(zip(names, self._session.run(names, {**feeds, **self._past}), strict=True))
        self._past = {
            name.replace(PRESENT, PAST): found.pop(name) for name in names if name.startswith(PRESENT)
        }
        return {name: _swapped(name, array) for name, array in found.items()}


def _swapped(name: str, array: Array) -> Array:
    return np.ascontiguousarray(array.swapaxes(2, 3)) if name.startswith(CROSS_VALUE) else array


def _compile(path: Path) -> Any:
    return ov.Core().compile_model(read(path), "CPU", EXACT)
