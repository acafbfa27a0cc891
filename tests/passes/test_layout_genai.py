"""The files of onnxruntime-genai: its table names our ports, and forbidden tokens are forbidden in the graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exported_whisper import run_pass
from layout_fixtures import laid_out, names, optimized, tokens

from pocket_opt.errors import PocketOptError

WINDOW_S = 30


@pytest.mark.parametrize("level", ["BASIC", "HIGH"])
def test_the_tokens_stay(level: str) -> None:
    assert tokens(laid_out("genai", level, WINDOW_S)) == tokens(optimized(level, WINDOW_S))


def test_every_port_that_the_table_names_is_there() -> None:
    artifact = laid_out("genai", window_s=WINDOW_S)
    model = json.loads((artifact.root / "genai_config.json").read_text())["model"]
    for part in ("encoder", "decoder"):
        assert (artifact.root / model[part]["filename"]).is_file()
        layers = model["decoder"]["num_hidden_layers"]
        for side, found in zip(("inputs", "outputs"), names(artifact, part), strict=True):
            patterns = model[part][side].values()
            wanted = {name % layer if "%d" in name else name for name in patterns for layer in range(layers)}
            assert wanted == set(found)


def test_the_table_has_the_sizes_of_the_model() -> None:
    artifact = laid_out("genai", window_s=WINDOW_S)
    table = json.loads((artifact.root / "genai_config.json").read_text())
    assert (table["model"]["vocab_size"], table["model"]["context_length"]) == (
        artifact.metadata["dims"]["vocab"],
        64,
    )
    assert (table["model"]["decoder"]["head_size"], table["model"]["encoder"]["num_hidden_layers"]) == (16, 3)
    front_end = json.loads((artifact.root / "audio_processor_config.json").read_text())
    steps = [step["operation"] for step in front_end["feature_extraction"]["sequence"]]
    assert [step["type"] for step in steps] == ["AudioDecoder", "STFTNorm", "LogMelSpectrum"]
    assert steps[-1]["attrs"]["n_mel"] == 80


def test_a_window_that_the_client_does_not_feed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="feeds 30 s at once, and this model takes 4 s"):
        run_pass("layout_genai", optimized("BASIC"), tmp_path)
