"""Endless training batches: features with SpecAugment, Whisper token targets and CTC targets.

Every clip is decoded against two target sequences (say with and without timestamps, or transcribe and
translate), as the second costs little next to the encoder. Targets follow Whisper's protocol, no-speech
included.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from colored_noise import Audio
from log_mel import SAMPLE_RATE, WINDOW_S, LogMel
from train_tokenizer import LONGEST_TEXT_TOKENS, TIMESTAMP_STEP_S
from training_windows import Item, SpeechCorpus, WindowMaker
from transformers import WhisperTokenizer

IGNORED: Final = -100
# Characters of both languages for the auxiliary CTC loss; 0 is the blank.
CTC_ALPHABET: Final = " abcdefghijklmnopqrstuvwxyzäöüß"
# This many batches are drawn and sorted together.
_SORTED_BATCHES: Final = 6
_CUT_STEP_S: Final = 0.4
_WHOLE_WINDOW_SHARE: Final = 0.12
WARPS: Final = (0.90, 0.94, 0.97, 1.0, 1.03, 1.06, 1.10)


@dataclass(frozen=True)
class Batch:
    """Tensors of one step; decoder rows are two a clip: rows i and i + batch belong to clip i."""

    features: torch.Tensor
    decoder_input: torch.Tensor
    labels: torch.Tensor
    characters: torch.Tensor
    character_counts: torch.Tensor


class TargetWriter:
    """Turns items into Whisper token sequences."""

    def __init__(self, tokenizer: WhisperTokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._first_timestamp = self._id("<|0.00|>")
        self._texts: dict[str, list[int]] = {}

    def pair(self, item: Item) -> tuple[list[int], list[int]]:
        """Two target sequences of one item, from start-of-transcript to end-of-text."""
        if not item.segments:
            quiet = [self._id("<|startoftranscript|>"), self._id("<|nospeech|>"), self._id("<|endoftext|>")]
            return quiet, [*self._prompt(item, "transcribe", timestamps=False), self._id("<|endoftext|>")]
        translate_share = 1.0 if item.language == "de" else 0.15
        second = "translate" if self._rng.random() < translate_share else "transcribe"
        return self._sequence(item, "transcribe", 0.4), self._sequence(item, second, 0.5)

    def _sequence(self, item: Item, task: str, timestamp_share: float) -> list[int]:
        timestamps = self._rng.random() < timestamp_share
        ids = self._prompt(item, task, timestamps=timestamps)
        for segment in item.segments:
            text = self._text(segment.translation if task == "translate" else segment.text)
            ids += [self._time(segment.start), *text, self._time(segment.end)] if timestamps else text
        return [*ids, self._id("<|endoftext|>")]

    def _prompt(self, item: Item, task: str, *, timestamps: bool) -> list[int]:
        names = ["<|startoftranscript|>", f"<|{item.language}|>", f"<|{task}|>"]
        return [self._id(name) for name in (names if timestamps else [*names, "<|notimestamps|>"])]

    def _text(self, text: str) -> list[int]:
        if text not in self._texts:
            self._texts[text] = self._tokenizer(f" {text}", add_special_tokens=False).input_ids
        return self._texts[text]

    def _time(self, seconds: float) -> int:
        return self._first_timestamp + round(seconds / TIMESTAMP_STEP_S)

    def _id(self, token: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(token))


class BatchMaker:
    """Draws whole batches: features with SpecAugment, decoder targets, CTC targets."""

    def __init__(self, corpus: SpeechCorpus, tokenizer: WhisperTokenizer, seed: int) -> None:
        self._windows = WindowMaker(corpus, seed)
        self._targets = TargetWriter(tokenizer, seed)
        self._rng = random.Random(seed)
        self._waiting: list[list[Item]] = []
        self._end_of_text = int(tokenizer.eos_token_id)
        self._log_mel = LogMel(WARPS)
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, size: int) -> Batch:
        """One batch of `size` clips and twice as many target sequences.

        Clips of similar length share a batch, so that most batches need not compute the whole 4 s.
        """
        if not self._waiting:
            items = sorted((self._windows.draw() for _ in range(_SORTED_BATCHES * size)), key=_speech_end)
            self._waiting = [items[start : start + size] for start in range(0, len(items), size)]
            self._rng.shuffle(self._waiting)
        return self._batch(self._waiting.pop())

    def _batch(self, items: Sequence[Item]) -> Batch:
        first, second = zip(*(self._targets.pair(item) for item in items), strict=True)
        decoder_input, labels = self._decoder_rows([*first, *second])
        unspoken = [len(items) + row for row, item in enumerate(items) if not item.segments]
        labels[unspoken, 0] = IGNORED
        characters = [_characters(item) for item in items]
        return Batch(
            features=self._features(torch.from_numpy(self._waves(items))),
            decoder_input=decoder_input,
            labels=labels,
            characters=torch.tensor([c for row in characters for c in row]),
            character_counts=torch.tensor([len(row) for row in characters]),
        )

    def _waves(self, items: Sequence[Item]) -> Audio:
        """Waveforms [batch, samples], cut to a whole number of steps after the longest speech or left at 4 s."""
        end = max(_speech_end(item) for item in items) + self._rng.uniform(0.1, 0.5)
        cut = math.ceil(end / _CUT_STEP_S) * _CUT_STEP_S
        seconds = WINDOW_S if self._rng.random() < _WHOLE_WINDOW_SHARE else min(WINDOW_S, cut)
        return np.stack([item.wave[: round(seconds * SAMPLE_RATE)] for item in items])

    def _features(self, waves: torch.Tensor) -> torch.Tensor:
        warp = torch.randint(self._log_mel.warp_count, (len(waves),), generator=self._generator)
        features = self._log_mel(waves, warp)
        for clip in features:
            fill = clip.mean()
            for _ in range(2):
                self._mask(clip, 0, 10, fill)
                self._mask(clip, 1, 20, fill)
        return features

    def _mask(self, clip: torch.Tensor, axis: int, widest: int, fill: torch.Tensor) -> None:
        width = int(torch.randint(widest + 1, (1,), generator=self._generator))
        start = int(torch.randint(clip.shape[axis] - width, (1,), generator=self._generator))
        clip.narrow(axis, start, width).fill_(fill)

    def _decoder_rows(self, sequences: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(s) for s in sequences) - 1
        if longest > LONGEST_TEXT_TOKENS:
            raise ValueError(f"a target of {longest} tokens does not fit {LONGEST_TEXT_TOKENS} positions")
        decoder_input = torch.full((len(sequences), longest), self._end_of_text)
        labels = torch.full((len(sequences), longest), IGNORED)
        for row, sequence in enumerate(sequences):
            decoder_input[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
            labels[row, : len(sequence) - 1] = torch.tensor(sequence[1:])
        return decoder_input, labels


def _speech_end(item: Item) -> float:
    return item.segments[-1].end if item.segments else 0.0


def _characters(item: Item) -> list[int]:
    return [CTC_ALPHABET.index(c) + 1 for c in " ".join(segment.text for segment in item.segments)]
