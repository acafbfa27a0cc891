from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported_whisper import DECODER_LAYERS, exported, graph, operators, run_pass

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import sqnr_db
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import Floats


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_pass("fuse", exported(), tmp_path_factory.mktemp("fused")).artifact


def logits(model: Artifact, batch: int, cuts: tuple[int, ...]) -> Floats:
    runtime = open_runtime(model, threads=1)
    random = np.random.default_rng(3)
    state, found = runtime.encode(random.standard_normal((batch, 80, 400)).astype(np.float32)), []
    for length in cuts:
        answer, state = runtime.decode(random.integers(0, 500, (batch, length)), state)
        found.append(answer)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize(("dtype", "least_db"), [("int8", 28), ("fp16", 60)])
@pytest.mark.parametrize(("batch", "cuts"), [(1, (4, 1, 1)), (3, (1, 5))])
def test_logits_stay_near(
    fused: Artifact, dtype: str, least_db: float, batch: int, cuts: tuple[int, ...], tmp_path: Path
) -> None:
    found = run_pass("quantize_cross_cache", fused, tmp_path, dtype=dtype).artifact
    assert sqnr_db(logits(fused, batch, cuts), logits(found, batch, cuts)) > least_db


def test_integers_are_stored_and_multiplied(fused: Artifact, tmp_path: Path) -> None:
    outcome = run_pass("quantize_cross_cache", fused, tmp_path)
    assert outcome.did["tensors"] == 4 * DECODER_LAYERS
    ports = {port.name: port for port in outcome.artifact.components["encoder"].outputs}
    assert ports["cross_key_0"].dtype == ports["cross_value_1"].dtype == "int8"
    assert list(ports["cross_key_0"].shape[2:]) == [16, 200]
    assert list(ports["cross_value_scale_1"].shape[2:]) == [1, 16]
    counts = operators(graph(outcome.artifact, "decoder"))
    assert counts["MatMulInteger"] == 2 * DECODER_LAYERS
    assert counts["MultiHeadAttention"] == DECODER_LAYERS


def test_quantizers_take_it_from_there(fused: Artifact, tmp_path: Path) -> None:
    model = run_pass("quantize_cross_cache", fused, tmp_path / "cache").artifact
    for name, params in (
        ("dynamic_int8", {"components": ("encoder",)}),
        ("weight_only", {"components": ("decoder",)}),
        ("store_fp16", {}),
    ):
        model = run_pass(name, model, tmp_path / name, **params).artifact
    assert sqnr_db(logits(fused, 2, (3, 1)), logits(model, 2, (3, 1))) > 15


def test_a_graph_that_is_not_fused_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="not every cross-attention of the decoder is fused") as caught:
        run_pass("quantize_cross_cache", exported(), tmp_path)
    assert "after fuse" in caught.value.fix


def test_a_decoder_without_this_cache_is_refused(fused: Artifact, tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="reads no cross-attention cache in fp32"):
        run_pass("quantize_cross_cache", exported("basic"), tmp_path / "1")
    once = run_pass("quantize_cross_cache", fused, tmp_path / "2").artifact
    with pytest.raises(PocketOptError, match="reads no cross-attention cache in fp32"):
        run_pass("quantize_cross_cache", once, tmp_path / "3")
