"""AWQ on the PyTorch model: scales are folded away, the rest lies on the grid."""

from __future__ import annotations

from pathlib import Path

from rounded_whisper import check_rounding


def test_scales_are_folded_and_weights_lie_on_the_grid(tmp_path: Path) -> None:
    changed = check_rounding("torch_awq", tmp_path)
    folded = [name for name in changed if "layer_norm" in name]
    assert {name.split(".")[-2] for name in folded} == {
        "self_attn_layer_norm",
        "encoder_attn_layer_norm",
        "final_layer_norm",
    }
    assert not [name for name in changed if "embed" in name or "conv" in name]
