"""A Whisper model on one of its runtimes: audio in, transcripts out.

Decoding, greedy or by beam search, follows `generate()` of transformers token by token. Audio longer than the model's
window is cut into consecutive windows that are decoded independently: nothing is lost, but a word on a cut may be heard
as two.
"""

from __future__ import annotations

import importlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .audio import Floats
from .beam import beam
from .greedy import greedy
from .opening import read_table
from .rules import Rules, Tokens
from .search import Found, Prompted
from .transcript import DecodeOptions, RequestError, Segment, Transcript
from .vocabulary import Vocabulary

BACKENDS = {"onnxruntime": "onnxruntime_backend", "openvino": "openvino_backend"}
"""Runtime that the metadata of a model names -> the module here that opens it."""
KEPT_FRAMES = 50
"""Frames (10 ms each) of silence that the encoder still sees: without any, last words are lost."""


class Backend(Protocol):
    """The graphs of a model on a runtime. What a state is, only the backend knows.

    Several decodings may start from a state of `encode`; a state of `decode` is used up by the next call.
    """

    def features(self, batch: Floats) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        ...

    def encode(self, features: Floats) -> Any:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        ...

    def encoder_hidden(self, state: Any) -> Floats:
        """The encoder's output `[batch, positions, d_model]` in a state of `encode`."""
        ...

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        ...

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times."""
        ...


@dataclass
class _Heard:
    """What a clip of so many seconds has given so far; `logprob` is the sum over `steps` predictions."""

    seconds: float
    language: str | None
    tokens: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    no_speech: float | None = None
    logprob: float = 0.0
    steps: int = 0

    def note(self, found: Found) -> None:
        """Add the probabilities of one more decoding; that of silence counts where the clip begins."""
        self.no_speech = found.no_speech if self.no_speech is None else self.no_speech
        self.logprob += found.logprob
        self.steps += found.steps


class Whisper:
    """An exported Whisper model in `directory`, opened on the CPU; `threads` 0 leaves their number to the runtime.

    Attributes:
        sample_rate: Hz of the audio it expects.
        window_s: seconds that the encoder sees at once.
        load_seconds: time that opening took.
        vocabulary: its special ids and languages.
    """

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        table = read_table(directory)
        files = {Path(name).name: name for part in table["components"].values() for name in part["files"]}
        dims = table["metadata"]["dims"]
        self.sample_rate, self.window_s = int(dims["sample_rate"]), float(dims["window_s"])
        self._longest, self._time_s = int(dims["target_positions"]), self.window_s / dims["source_positions"]
        generation = (directory / files["generation_config.json"]).read_text(encoding="utf-8")
        self._generation = json.loads(generation)
        self.vocabulary = Vocabulary(directory / files["tokenizer.json"], self._generation)
        self._rules = Rules(self._generation, self.vocabulary, int(dims["vocab"]))
        self._shortens = table["metadata"].get("audio_context") == "auto"
        self._backend = _open_backend(directory, table, threads)
        self.load_seconds = time.perf_counter() - began

    def features(self, audio: Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        longest = min(max(map(len, audio)), round(self.window_s * self.sample_rate))
        batch = np.zeros((len(audio), max(longest, 1)), np.float32)
        for row, clip in zip(batch, audio, strict=True):
            row[: len(clip)] = clip[:longest]
        return self._backend.features(batch)

    def encode(self, features: Floats) -> Any:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        return self._backend.encode(without_silence(features) if self._shortens else features)

    def encoder_hidden(self, state: Any) -> Floats:
        """The encoder's output `[batch, positions, d_model]` in a state of `encode`."""
        return self._backend.encoder_hidden(state)

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        return self._backend.decode(tokens, state)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times."""
        return self._backend.select(state, rows)

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        return self.vocabulary.first_prompt(options)

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded as one batch; RequestError for an unknown language."""
        options = options or DecodeOptions()
        self.prompt(options)
        language = self.vocabulary.spoken(options)
        heard = [_Heard(len(clip) / self.sample_rate, language) for clip in audio]
        size = round(self.window_s * self.sample_rate)
        for offset in range(0, max((len(clip) or 1 for clip in audio), default=0), size):
            rows = [row for row, clip in enumerate(audio) if offset < (len(clip) or 1)]
            window = [audio[row][offset : offset + size] for row in rows]
            self._hear([heard[row] for row in rows], window, offset / self.sample_rate, options)
        texts = [self.vocabulary.text(clip.tokens) for clip in heard]
        return [
            Transcript(
                text,
                tuple(clip.tokens),
                tuple(clip.segments),
                clip.language,
                clip.no_speech,
                clip.logprob / max(clip.steps, 1),
            )
            for text, clip in zip(texts, heard, strict=True)
        ]

    def _hear(self, clips: list[_Heard], audio: list[Floats], at: float, options: DecodeOptions) -> None:
        """Decode the window `at` seconds; where speech goes on after what was understood, again from there."""
        features = self.features(audio)
        state = self.encode(features)
        if self.vocabulary.languages and not clips[0].language:
            self._detect_languages(clips, state)
        prompts = np.array([self.vocabulary.prompt(options, clip.language) for clip in clips], np.int64)
        frames, seek = features.shape[2], np.zeros(len(clips), np.int64)
        limit = int(self._generation.get("max_length") or 20)  # 20 is generate()'s own default
        new = options.max_new_tokens or self._generation.get("max_new_tokens")
        while (rows := np.flatnonzero(seek < frames)).size:
            if seek.any():
                state = self.encode(np.stack([_shifted(features[row], int(seek[row])) for row in rows]))
            limit = min((new or limit) + prompts.shape[1], self._longest)
            prompted = Prompted(state, prompts[rows], limit, options.timestamps)
            for row, found in zip(rows, self._search(prompted, options), strict=True):
                clip, start = clips[row], at + float(seek[row]) * self.window_s / frames
                clip.note(found)
                runs, times = split_runs(found.tokens, self.vocabulary.timestamp_begin)
                for run in runs:
                    clip.tokens += run
                    end = min(at + self.window_s, clip.seconds)
                    clip.segments += self.vocabulary.segment(run, start, end, self._time_s)
                seek[row] += round(times * self._time_s * frames / self.window_s) or frames

    def _search(self, prompted: Prompted, options: DecodeOptions) -> list[Found]:
        if options.beams == 1:
            return greedy(self, self._rules, prompted)
        return beam(self, self._rules, prompted, options.beams, options.length_penalty)

    def _detect_languages(self, clips: list[_Heard], state: Any) -> None:
        """Give each clip its most probable language."""
        codes, ids = list(self.vocabulary.languages), list(self.vocabulary.languages.values())
        logits, _ = self.decode(np.full((len(clips), 1), self.vocabulary.start, np.int64), state)
        for clip, best in zip(clips, logits[:, -1, ids].argmax(-1), strict=True):
            clip.language = codes[best]


def split_runs(tokens: list[int], first: int) -> tuple[list[list[int]], int]:
    """Cut a prediction at its pairs of times (ids from `first` on): the runs to keep, and where to read on.

    0: the window is used up. Otherwise the last pair shows that speech goes on there; what follows the pair is
    dropped, to be decoded again from that time (`_retrieve_segment` of transformers' generate()).
    """
    is_time = [token >= first for token in tokens]
    cuts = [place for place in range(1, len(tokens)) if is_time[place - 1] and is_time[place]]
    if not cuts:
        return [tokens], 0
    read_on = 0
    if is_time[-2:] == [False, True]:
        cuts.append(len(tokens))
    else:
        read_on = tokens[cuts[-1] - 1] - first
        cuts[-1] += 1
    return [tokens[begin:end] for begin, end in itertools.pairwise([0, *cuts])], read_on


def without_silence(features: Floats) -> Floats:
    """`features` `[batch, mels, frames]` without what is padding in every row, half a second of it kept.

    Padding, and digital silence, has the same value in all mels. The length is rounded up to a multiple of 32 frames,
    so that clips of like length share their buffers.
    """
    sounding = np.flatnonzero((np.ptp(features, axis=1) > 0).any(axis=0))
    needed = (int(sounding[-1]) + 1 if len(sounding) else 0) + KEPT_FRAMES
    return features[:, :, : min(features.shape[2], -(-needed // 32) * 32)]


def _shifted(features: Floats, frames: int) -> Floats:
    """`features` `[mels, frames]` from a frame on, filled up with zeros as transformers does."""
    return np.pad(features[:, frames:], ((0, 0), (0, frames)))


def _open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> Backend:
    runtime = str(table["metadata"].get("runtime", "onnxruntime"))
    if runtime not in BACKENDS:
        raise RequestError(f"{directory}: made for the runtime {runtime!r}; known are {', '.join(BACKENDS)}")
    module = importlib.import_module(f"{__package__}.{BACKENDS[runtime]}")
    backend: Backend = module.open_backend(directory, table, threads)
    return backend
