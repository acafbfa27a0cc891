"""The decoder of static shapes says what the one with a growing cache says, however the tokens are cut into calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported_whisper import exported

from pocket_opt.models.whisper.runner.static_decoder import StaticDecoder
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import SpeechRuntime, Tokens

CONTEXT, VOCAB = 64, 511


@pytest.fixture(scope="module")
def runtimes() -> tuple[SpeechRuntime, SpeechRuntime]:
    return open_runtime(exported("kv_cache"), threads=1), open_runtime(exported("static"), threads=1)


def tokens(count: int) -> Tokens:
    return np.random.default_rng(3).integers(0, VOCAB, (2, count))


@pytest.mark.parametrize("parts", [(CONTEXT,), (1, CONTEXT - 1), (4, 1, 1), (3, 2, 6), (2,)], ids=str)
def test_any_cut_gives_the_same_logits(
    runtimes: tuple[SpeechRuntime, SpeechRuntime], parts: tuple[int, ...]
) -> None:
    growing, static = runtimes
    features = np.random.default_rng(0).standard_normal((2, 80, 400)).astype(np.float32)
    fed = tokens(sum(parts))
    expected, _ = growing.decode(fed, growing.encode(features))
    found, state = [], static.encode(features)
    for first, count in zip(np.cumsum((0, *parts)), parts, strict=False):
        logits, state = static.decode(fed[:, first : first + count], state)
        found.append(logits)
    assert np.abs(np.concatenate(found, axis=1) - expected).max() < 1e-4


@pytest.mark.parametrize(("calls", "used"), [((1, 4), [4, 4, 1]), ((1,), [1] * 9), ((4,), [4, 4, 4])])
def test_as_few_calls_as_fit(calls: tuple[int, ...], used: list[int]) -> None:
    """A bundle may have been written when there was no graph for prompts."""
    made = []

    def call(inputs):  # type: ignore[no-untyped-def]
        size = inputs["tokens"].shape[1]
        made.append(size)
        assert inputs["position"].max() < 10
        return {"logits": np.ones((1, size, 5)), "new_key_0": np.full((1, 2, size, 3), len(made))}

    decoder = StaticDecoder(dict.fromkeys(calls, call), {"past_key_0": (1, 2, 10, 3)}, np.float32, np.float32)
    (row,) = decoder.start([{}])
    assert decoder.decode(np.arange(9)[None], [row]).shape == (1, 9, 5)
    assert made == used
    filled = np.repeat(np.arange(1, len(used) + 1), used)[:9]
    assert row.past["past_key_0"][0, 0, :, 0].tolist() == [*filled, 0]


def test_the_model_of_a_bundle_opens_without_prefill(tmp_path: Path) -> None:
    artifact = exported("static")
    old = artifact.carry(tmp_path, without=("prefill",)).save()
    features = np.zeros((1, 80, 400), np.float32)
    first, second = (open_runtime(one, threads=1) for one in (artifact, old))
    fed = tokens(6)[:1]
    assert (
        np.abs(
            first.decode(fed, first.encode(features))[0] - second.decode(fed, second.encode(features))[0]
        ).max()
        < 1e-4
    )
