"""The files of transformers.js: names by precision, and a configuration that says which one is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exported_whisper import exported, run_pass
from layout_fixtures import laid_out, names, optimized, tokens

from pocket_opt.errors import PocketOptError


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("fp32", ""), ("fp16", "_fp16"), ("q8", "_quantized"), ("q4", "_q4")]
)
def test_names_tell_the_precision(dtype: str, suffix: str, tmp_path: Path) -> None:
    artifact = run_pass("layout_transformers_js", optimized("BASIC"), tmp_path, dtype=dtype).artifact
    files = [artifact.components[name].files for name in ("encoder", "decoder")]
    assert files == [(f"onnx/encoder_model{suffix}.onnx",), (f"onnx/decoder_model_merged{suffix}.onnx",)]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["transformers.js_config"] == {"dtype": dtype}
    assert config["model_type"] == "whisper"


def test_graphs_and_tokens_are_those_of_optimum() -> None:
    artifact = laid_out("transformers_js", "HIGH")
    assert names(artifact, "decoder") == names(laid_out("optimum", "HIGH"), "decoder")
    assert tokens(artifact) == tokens(optimized("HIGH"))


def test_the_source_keeps_its_configuration(tmp_path: Path) -> None:
    run_pass("layout_transformers_js", optimized("BASIC"), tmp_path)
    source = json.loads(optimized("BASIC").file("generation", "config.json").read_text())
    assert "transformers.js_config" not in source


def test_a_decoder_without_caches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="needs caches"):
        run_pass("layout_transformers_js", exported("basic"), tmp_path)
