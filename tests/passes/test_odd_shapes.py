"""Shapes that nothing is tuned for: uneven layers, 128 mels, every real vocabulary, widths that fill no block."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from exported_whisper import run_pass
from graph_sessions import random_features, random_tokens, reference_logits
from targets_chain import build
from transformers import WhisperForConditionalGeneration

from pocket_opt.artifact import Artifact
from pocket_opt.runtimes import open_runtime

FRAMES, WINDOWS = 200, 2
CUTS = ((1,), (3, 1, 1, 4), (5, 1))
"""Lengths of calls; nothing was traced at any of them."""
LEAST_DB = {"BASIC": 90, "MEDIUM": 50, "HIGH": 20, "EXTREME": 6}


@cache
def source(vocab: int) -> Artifact:
    shape = {"d_model": 80, "heads": 5, "encoder_layers": 3, "decoder_layers": 2, "mels": 128, "vocab": vocab}
    root = Path(mkdtemp(prefix="odd-"))
    empty = Artifact(root, {}, {})
    return run_pass("random_weights", empty, root / "source", source_positions=100, **shape).artifact


def signal_to_noise_db(found: np.ndarray, expected: np.ndarray) -> float:
    noise = np.square(found - expected, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise))


@pytest.mark.parametrize(
    ("vocab", "level"),
    [(51864, "BASIC"), (51865, "MEDIUM"), (51864, "HIGH"), (51866, "HIGH"), (51866, "EXTREME")],
)
def test_logits_are_those_of_transformers(vocab: int, level: str, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(source(vocab).root).eval()
    runtime = open_runtime(build(source(vocab), level, tmp_path), threads=1)
    features = random_features(WINDOWS, 128, FRAMES)
    for cuts in CUTS:
        tokens = random_tokens(WINDOWS, sum(cuts), vocab)
        state, found, begin = runtime.encode(features), [], 0
        for length in cuts:
            logits, state = runtime.decode(tokens[:, begin : begin + length], state)
            found.append(logits)
            begin += length
        expected = reference_logits(model, features, tokens)
        assert signal_to_noise_db(np.concatenate(found, axis=1), expected) > LEAST_DB[level], cuts
