"""Judging variants: the exact model is at no distance from itself, worse ones are further away, noise is repeatable."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from exported_whisper import exported

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Dataset
from pocket_opt.precision import Rule
from pocket_opt.search import listening
from pocket_opt.search.layers import layers_of
from pocket_opt.search.listening import Listener, Utterance, utterances
from pocket_opt.search.variants import build


def small() -> Artifact:
    """One layer of each kind."""
    return exported("kv_cache", 1, 1)


@cache
def heard() -> tuple[Utterance, ...]:
    return tuple(utterances(list(Dataset.open("sample:calibration").limit(1)), 16_000, 4, (10.0,)))


def test_noise_has_the_level_asked_for_and_is_always_the_same() -> None:
    clean, noisy = heard()[0].audio, heard()[1].audio
    assert len(heard()) == 2
    assert 20 * np.log10(np.linalg.norm(clean) / np.linalg.norm(noisy - clean)) == pytest.approx(10, abs=0.01)
    again = utterances(list(Dataset.open("sample:calibration").limit(1)), 16_000, 4, (10.0,))
    assert np.array_equal(noisy, again[1].audio)


def test_coarser_forms_are_further_from_the_exact_model(tmp_path: Path) -> None:
    judge, layers = Listener(small(), heard(), 2, lambda *_: None), layers_of(small())
    same, wer = judge.changed(small())
    assert (same.errors, wer) == (0, 0.0)
    assert judge.divergence(small(), ("encoder", "decoder")) == 0
    for component in ("encoder", "decoder"):
        found = [
            judge.divergence(
                build(
                    small(),
                    [Rule(f"{component}.layers.*", bits=bits)],
                    layers,
                    tmp_path / f"{component}{bits}",
                ),
                [component],
            )
            for bits in (8, 4, 2)
        ]
        assert 0 < found[0] < found[1] < found[2]
    worst = build(small(), [Rule("*.layers.*", bits=2)], layers, tmp_path / "worst")
    changed, _ = judge.changed(worst)
    assert changed.errors > changed.length / 10


def test_memory_bounds_the_clips_that_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(listening, "CACHE_BYTES", 1)
    Listener(small(), heard(), 4, lambda done, *_: told.append(done))
    assert told == [1]
