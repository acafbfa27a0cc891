"""The clip that is the same for every variant, and the times taken on it, with a runtime that records its calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from pocket_opt.evaluation.forced import PROMPT_TOKENS, forced_clip, run_forced, run_whole, synthetic_audio

DIMS = {"window_s": 4.0, "sample_rate": 16_000, "target_positions": 64, "vocab": 600}


class Recorder:
    """Feeds nothing through any network; notes what it is given."""

    def __init__(self) -> None:
        self.fed: list[list[int]] = []
        self.selected: list[list[int]] = []

    def features(self, audio: list[Any]) -> np.ndarray:
        return np.zeros((len(audio), 80, 400), np.float32)

    def encode(self, features: np.ndarray) -> object:
        return object()

    def decode(self, tokens: np.ndarray, state: object) -> tuple[np.ndarray, object]:
        assert (tokens == tokens[0]).all()
        self.fed.append(tokens[0].tolist())
        return np.zeros((*tokens.shape, 600), np.float32), state

    def select(self, state: object, rows: list[int]) -> object:
        self.selected.append(list(rows))
        return state


def test_the_prompt_goes_in_at_once_and_then_one_token_at_a_time() -> None:
    runtime, clip = Recorder(), forced_clip(DIMS, 10)
    sample = run_forced(runtime, clip)  # type: ignore[arg-type]
    assert runtime.selected == []
    assert [len(tokens) for tokens in runtime.fed] == [PROMPT_TOKENS, *[1] * 9]
    assert all(0 <= token < DIMS["vocab"] for tokens in runtime.fed for token in tokens)
    assert len(sample["step"]) == 9
    phases = sum(sum(sample[phase]) for phase in ("mel", "encoder", "prefill", "step"))
    assert sample["total"][0] == phases or abs(sample["total"][0] - phases) < 1e-6


def test_beams_begin_after_the_prompt_and_change_places() -> None:
    runtime, clip = Recorder(), forced_clip(DIMS, 4)
    sample = run_forced(runtime, clip, 3)  # type: ignore[arg-type]
    assert [len(tokens) for tokens in runtime.fed] == [PROMPT_TOKENS, 1, 1, 1]
    assert runtime.selected == [[0, 0, 0], [1, 2, 0], [1, 2, 0]]
    assert len(sample["step"]) == 3


def test_one_graph_is_asked_for_its_beams() -> None:
    class Whole:
        def hear(self, audio: list[Any], options: Any, *, new_tokens: int) -> list[str]:
            self.asked = (options.beams, new_tokens)
            return [""]

    runtime, clip = Whole(), forced_clip(DIMS, 10)
    assert set(run_whole(runtime, clip, 5)) == {"total"}  # type: ignore[arg-type]
    assert runtime.asked == (5, 10)


def test_a_model_with_few_positions_gets_fewer_tokens() -> None:
    clip = forced_clip({**DIMS, "target_positions": 12}, 32)
    assert PROMPT_TOKENS + len(clip.tokens) + 1 == 12


def test_audio_is_one_window_and_always_the_same() -> None:
    clip = forced_clip(DIMS, 4)
    assert clip.audio.shape == (64_000,)
    assert clip.audio.dtype == np.float32
    assert np.array_equal(clip.audio, synthetic_audio(4, 16_000))
    assert 0.1 < np.abs(clip.audio).max() <= 1
