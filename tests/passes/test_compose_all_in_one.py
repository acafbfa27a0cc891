from __future__ import annotations

from pathlib import Path

import pytest
from exported_whisper import digests, edited, exported, graph, operators, run_pass

from pocket_opt.errors import PocketOptError


def test_one_file_takes_the_place_of_three(tmp_path: Path) -> None:
    done = run_pass("compose_all_in_one", exported(), tmp_path / "one")
    assert set(done.artifact.components) == {"all_in_one", "generation", "processor"}
    assert [port.name for port in done.artifact.components["all_in_one"].outputs][:2] == ["text", "tokens"]
    assert done.artifact.metadata["decoder"] == "all_in_one"
    assert done.did["bytes_after"] < done.did["bytes_before"] + 50_000
    assert done.did["operators"]["Loop"] == 2
    assert operators(graph(done.artifact, "all_in_one"))["Loop"] == 2


def test_what_was_fused_and_quantized_before_is_composed(tmp_path: Path) -> None:
    fused = run_pass("fuse", exported(), tmp_path / "fuse").artifact
    small = run_pass("weight_only", fused, tmp_path / "weights", components=("decoder",)).artifact
    small = run_pass("quantize_embedding", small, tmp_path / "embedding").artifact
    small = run_pass("store_fp16", small, tmp_path / "fp16").artifact
    done = run_pass("compose_all_in_one", small, tmp_path / "one")
    assert done.did["operators"]["MultiHeadAttention"] == 3 + 2 * 2
    assert done.did["bytes_after"] < done.did["bytes_before"] + 50_000


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (run_pass("compose_all_in_one", exported(), tmp_path / name).artifact for name in "ab")
    assert digests(first) == digests(second)


def test_a_decoder_without_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="has no cache"):
        run_pass("compose_all_in_one", exported("basic"), tmp_path)


def test_a_head_that_is_not_found_is_refused(tmp_path: Path) -> None:
    def rename(decoder):
        for node in decoder:
            node.name = (node.name or "").replace("decoder.layer_norm/", "decoder.norm/")

    with pytest.raises(PocketOptError, match="0 nodes named"):
        run_pass("compose_all_in_one", edited("decoder", tmp_path, rename), tmp_path / "one")
