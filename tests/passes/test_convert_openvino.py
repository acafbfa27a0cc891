"""ONNX to OpenVINO: caches become states, attention takes the forms that the plugin is fast at, answers stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_whisper import DECODER_LAYERS, digests, exported, run_pass
from openvino_models import converted, kernels

from pocket_opt.errors import PocketOptError
from pocket_opt.openvino_graphs import checks
from pocket_opt.passes import convert_openvino


def test_caches_are_states_and_attention_is_rewritten(tmp_path: Path) -> None:
    outcome = run_pass("convert_openvino", exported(), tmp_path)
    decoder = outcome.did["decoder"]
    assert decoder["states"] == 2 * DECODER_LAYERS
    assert decoder["self_attention"] == decoder["cross_attention"] == DECODER_LAYERS
    assert outcome.did["encoder"]["cross_values_swapped"] == DECODER_LAYERS
    ports = {port.name: port for port in outcome.artifact.components["decoder"].inputs}
    crossed = [f"cross_{kind}_{layer}" for layer in range(DECODER_LAYERS) for kind in ("key", "value")]
    assert sorted(ports) == sorted(["tokens", "beam_idx", *crossed])
    assert ports["cross_value_0"].shape == ("?", 4, 16, 200)
    assert [port.name for port in outcome.artifact.components["decoder"].outputs] == ["logits"]


def test_the_plugin_fuses_attention_with_its_cache() -> None:
    found = kernels(converted(), "decoder")
    assert found["ScaledDotProductAttention"] == DECODER_LAYERS
    assert found["MemoryInput"] == 2 * DECODER_LAYERS


def test_a_decoder_without_cache_is_converted_as_it_is(tmp_path: Path) -> None:
    outcome = run_pass("convert_openvino", exported("basic"), tmp_path)
    names = [port.name for port in outcome.artifact.components["decoder"].inputs]
    assert sorted(names) == ["encoder_hidden", "tokens"]


def test_the_artifact_says_how_it_asks_to_be_run(tmp_path: Path) -> None:
    artifact = run_pass("convert_openvino", exported(), tmp_path, precision="default").artifact
    assert artifact.metadata["runtime"] == "openvino"
    assert artifact.metadata["session"] == {"precision": "default", "cache_precision": "f32"}


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    assert digests(run_pass("convert_openvino", exported(), tmp_path).artifact) == digests(converted())


def test_operators_of_onnx_runtime_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    fused = run_pass("fuse", exported(), tmp_path / "fused").artifact
    with pytest.raises(PocketOptError, match=r"operators of ONNX Runtime(.|\n)*com\.microsoft"):
        run_pass("convert_openvino", fused, tmp_path / "openvino")
    assert not list((tmp_path / "openvino").iterdir())


def test_answers_that_differ_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_openvino, "LEAST_DB", 1000.0)
    with pytest.raises(PocketOptError, match="no longer agrees with its input"):
        run_pass("convert_openvino", exported(), tmp_path)


def test_agreement_is_told_by_component() -> None:
    levels = checks.require_agreement(exported(), converted(), ("mel", "encoder", "decoder"), least_db=60)
    assert set(levels) == {"mel", "encoder", "decoder"}
    assert min(levels.values()) > 90
