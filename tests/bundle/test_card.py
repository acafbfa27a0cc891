"""The card says what the manifest says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from variant_fixtures import make

from pocket_opt.bundle import write_bundle
from pocket_opt.bundle.card import card


def text_of(root: Path, level: str = "HIGH", **changes: object) -> str:
    made = make(root / "store", level, **changes)  # type: ignore[arg-type]
    bundle = write_bundle(made.variant, made.artifact, root / level, measurements=made.measurements)
    text = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert text == card(bundle.manifest)
    return text


def test_it_tells_what_where_how_good_and_how_to_run(tmp_path: Path) -> None:
    text = text_of(tmp_path, overrides=("decoder=basic",))
    assert text.startswith("# pocket_whisper for cpu, level HIGH\n")
    assert "pip install onnxruntime numpy tokenizers soundfile\npython run.py recording.wav" in text
    assert "synthetic speech" in text
    assert "Licence of the model: Apache-2.0." in text
    assert "`decoder=basic`" in text
    assert "| wer | 3.71 % | 3.42 % | +0.29 points | 226 | 1 |" in text
    assert "| peak_mb | 104 MB | 612 MB | -83 % | 3 | 1 |" in text
    assert "\n1. as the test says\n" in text
    assert "| wer_delta | 1 | 0.29 | within |" in text
    assert "| quantize | quantize_pass 1 | bits=8, block=32 |" in text
    assert "digest=000000000000…" in text


def test_it_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    made = make(tmp_path / "store", "HIGH")
    told = {"runtime": "openvino", "why": "it takes 0.80 of the time of onnxruntime"}
    chosen = replace(made.artifact, metadata={**made.artifact.metadata, "chosen": told})
    text = card(write_bundle(made.variant, chosen, tmp_path / "HIGH").manifest)
    assert "> openvino was chosen: it takes 0.80 of the time of onnxruntime." in text


def test_the_source_model_s_card_names_its_own_packages(tmp_path: Path) -> None:
    text = text_of(tmp_path, "NONE")
    assert "pip install torch transformers tokenizers soundfile" in text
    assert "No budget was set for this level." in text


def test_every_table_row_has_the_cells_of_its_head(tmp_path: Path) -> None:
    cells = 0
    for line in text_of(tmp_path).splitlines():
        if line.startswith("| ---"):
            cells = line.count("|")
        elif not line.startswith("|"):
            cells = 0
        elif cells:
            assert line.count("|") == cells, line
