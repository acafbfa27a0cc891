"""A small Whisper whose PyTorch layers a pass rounds on real clips, and what must hold whatever the method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_whisper import run_pass
from safetensors.numpy import load_file
from whisper_fixtures import tiny_checkpoint

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.grids import find_grid

BLOCK = 32
EXACT_DB = 100.0
"""fp32 arithmetic between the checkpoint and the graph (queries are scaled at export) costs what is left."""


def source(root: Path) -> Artifact:
    """A random Whisper of one encoder and one decoder layer."""
    return tiny_checkpoint(root / "source", encoder_layers=1, decoder_layers=1, d_model=64)


def check_rounding(name: str, root: Path, **params: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Run the pass `name` on two clips and hold its checkpoint to its promises; gives the tensors that it changed."""
    pytest.importorskip("cpuinfo", reason="neural-compressor's PyTorch part is not installed")
    model, clips = source(root), str(Dataset.open("sample:calibration").source)
    outcome = run_pass(name, model, root / "rounded", calibration_path=clips, clips=2, **params)
    rounded = outcome.artifact
    assert outcome.did["clips"] == 2
    before, after = load_file(model.path("model")), load_file(rounded.path("model"))
    assert before.keys() == after.keys()
    changed = {key: after[key] for key in after if not np.array_equal(before[key], after[key])}
    matrices = [key for key in after if key.endswith((".q_proj.weight", "fc2.weight", "out_proj.weight"))]
    symmetric = params.get("symmetric", True)
    for key in matrices:
        blocks = after[key].reshape(len(after[key]), -1, BLOCK)
        assert find_grid(blocks, 4, symmetric=symmetric).found.all(), key
    assert set(matrices) <= set(changed)

    graphs = run_pass("export_onnx", rounded, root / "onnx").artifact
    own = {"bits": 4, "block_size": BLOCK, "symmetric": symmetric}
    kept = run_pass("weight_only", graphs, root / "kept", **own, algorithm="grid")
    for part in kept.did["components"].values():
        assert part["least_exact"]["sqnr_db"] > EXACT_DB
    with pytest.raises(PocketOptError, match="would round them again") as caught:
        run_pass("weight_only", graphs, root / "again", **own)
    assert "algorithm=grid" in caught.value.fix
    return changed
