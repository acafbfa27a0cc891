"""Endless 4 s training windows: speech of the synthetic corpus at random places, with gain and noise."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from colored_noise import COLORS, Audio, colored_noise, noise_level
from log_mel import SAMPLE_RATE, WINDOW_S, WINDOW_SAMPLES

_NO_SPEECH_SHARE: Final = 0.04
_GERMAN_SHARE: Final = 0.38
_PAIR_SHARE: Final = 0.15
_PAIR_TRIES: Final = 6
_PAIR_PIECE_S: Final = 2.0
_LATEST_START_S: Final = 1.9


@dataclass(frozen=True)
class Segment:
    """One spoken command inside a window, times in seconds."""

    start: float
    end: float
    text: str
    translation: str


@dataclass(frozen=True)
class Item:
    """A window of audio with what it holds; no segments means no speech."""

    wave: Audio
    language: str
    segments: tuple[Segment, ...]


class SpeechCorpus:
    """The clips of `synthesize_speech.py`, indexed by language and voice."""

    def __init__(self, folder: Path) -> None:
        self._audio = np.memmap(folder / "speech.i16", dtype=np.int16, mode="r")
        lines = (folder / "speech.jsonl").read_text(encoding="utf-8").splitlines()
        self.entries: list[dict[str, Any]] = [json.loads(line) for line in lines]

    @cached_property
    def by_language(self) -> dict[str, list[dict[str, Any]]]:
        """Entries of each language."""
        return _grouped(self.entries, "language")

    @cached_property
    def short_by_voice(self) -> dict[str, list[dict[str, Any]]]:
        """Entries short enough to share a window, of each voice."""
        return _grouped([e for e in self.entries if e["length"] < _PAIR_PIECE_S * SAMPLE_RATE], "voice")

    def audio(self, entry: dict[str, Any]) -> Audio:
        """The samples of one entry, about -0.5 to 0.5."""
        return self._audio[entry["offset"] : entry["offset"] + entry["length"]].astype(np.float32) / 32768.0


def _grouped(entries: Sequence[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        groups[entry[key]].append(entry)
    return dict(groups)


class WindowMaker:
    """Places speech in a 4 s window and adds gain and noise."""

    def __init__(self, corpus: SpeechCorpus, seed: int) -> None:
        self._corpus = corpus
        self._rng = random.Random(seed)
        noise_rng = np.random.default_rng(seed)
        self._noise = [
            colored_noise(noise_rng, 4 * WINDOW_SAMPLES, color) for color in COLORS for _ in range(6)
        ]

    def draw(self) -> Item:
        """One window."""
        if self._rng.random() < _NO_SPEECH_SHARE:
            return self._silence()
        language = "de" if self._rng.random() < _GERMAN_SHARE else "en"
        return self._speech(language, self._choose(language))

    def _choose(self, language: str) -> list[dict[str, Any]]:
        first = self._rng.choice(self._corpus.by_language[language])
        partners = self._corpus.short_by_voice.get(first["voice"])
        if self._rng.random() >= _PAIR_SHARE or partners is None:
            return [first]
        for _ in range(_PAIR_TRIES):
            pair = self._rng.choices(partners, k=2)
            if sum(e["length"] for e in pair) < (WINDOW_S - 0.5) * SAMPLE_RATE:
                return pair
        return [first]

    def _speech(self, language: str, entries: Sequence[dict[str, Any]]) -> Item:
        wave = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        slack = WINDOW_SAMPLES - sum(e["length"] for e in entries)
        position = self._lead(slack - (len(entries) - 1) * SAMPLE_RATE // 4)
        segments = []
        for index, entry in enumerate(entries):
            if index:
                rest = WINDOW_SAMPLES - position - entry["length"]
                position += int(self._rng.uniform(0.15, min(0.6, rest / SAMPLE_RATE)) * SAMPLE_RATE)
            end = position + entry["length"]
            wave[position:end] = self._corpus.audio(entry)
            start_s, end_s = position / SAMPLE_RATE, end / SAMPLE_RATE
            segments.append(Segment(start_s, end_s, entry["text"], entry["translation"]))
            position = end
        return Item(self._degrade(wave, position), language, tuple(segments))

    def _lead(self, slack: int) -> int:
        longest = min(slack, int(_LATEST_START_S * SAMPLE_RATE))
        usual = min(longest, SAMPLE_RATE // 2)
        return int(self._rng.uniform(0, longest if self._rng.random() < 0.25 else usual))

    def _degrade(self, wave: Audio, speech_end: int) -> Audio:
        if self._rng.random() < 0.5:
            snr = self._rng.uniform(4, 20) if self._rng.random() < 0.65 else self._rng.uniform(20, 45)
            tail = (
                WINDOW_SAMPLES
                if self._rng.random() < 0.4
                else int(self._rng.uniform(0.05, 0.6) * SAMPLE_RATE)
            )
            end = min(WINDOW_SAMPLES, speech_end + tail)
            wave[:end] += self._noise_slice(end) * noise_level(wave[wave != 0], snr)
        return wave * np.float32(10.0 ** self._rng.uniform(-1.2, 0.2))

    def _noise_slice(self, samples: int) -> Audio:
        noise = self._rng.choice(self._noise)
        start = self._rng.randrange(len(noise) - samples)
        return noise[start : start + samples]

    def _silence(self) -> Item:
        wave = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        if self._rng.random() < 0.8:
            samples = int(self._rng.uniform(0.3, 1.0) * WINDOW_SAMPLES)
            wave[:samples] = self._noise_slice(samples) * 10.0 ** self._rng.uniform(-4.0, -0.8)
        return Item(wave, self._rng.choice(("en", "de")), ())
