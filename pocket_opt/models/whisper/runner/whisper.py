"""A Whisper model on one of its runtimes: audio in, transcripts out.

Decoding, greedy or by beam search, follows `generate()` of transformers token by token, for audio of any length.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .audio import Floats
from .long_form import Clip, Reading
from .mel import whole_features
from .opening import read_table
from .rules import Rules, Tokens
from .transcript import DecodeOptions, RequestError, Segment, Transcript
from .vocabulary import Vocabulary
from .word_times import Attention

BACKENDS = {
    "executorch": "executorch_backend",
    "executorch_qnn": "executorch_qnn_backend",
    "onnxruntime": "onnxruntime_backend",
    "openvino": "openvino_backend",
    "qnn": "qnn_backend",
    "torchscript": "torchscript_backend",
}
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

    def attend(self, tokens: Tokens, state: Any) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        ...

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times."""
        ...


class Whisper:
    """An exported Whisper model in `directory`, opened on the CPU; `threads` 0 leaves their number to the runtime.

    Attributes:
        sample_rate: Hz of the audio it expects.
        window_s: seconds that the encoder sees at once.
        load_seconds: time that opening took.
        vocabulary: its special ids and languages.
        stepwise: whether `features`, `encode` and `decode` can be called: not where one graph does it all.
    """

    stepwise = True
    _reading: type[Reading] = Reading

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        table = read_table(directory)
        files = {Path(name).name: name for part in table["components"].values() for name in part["files"]}
        self._dims = dims = table["metadata"]["dims"]
        self.sample_rate, self.window_s = int(dims["sample_rate"]), float(dims["window_s"])
        generation = (directory / files["generation_config.json"]).read_text(encoding="utf-8")
        self._generation = json.loads(generation)
        self.vocabulary = Vocabulary(directory / files["tokenizer.json"], self._generation)
        self._rules = Rules(self._generation, self.vocabulary, int(dims["vocab"]))
        self._aligns = bool(table["metadata"].get("word_timestamps"))
        self._shortens = table["metadata"].get("audio_context") == "auto"
        self._open(directory, table, threads)
        self.load_seconds = time.perf_counter() - began

    def _open(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:
        self._backend = _open_backend(directory, table, threads)

    def features(self, audio: Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        return self._front_end(self._padded(audio))

    def _front_end(self, batch: Floats) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        return self._backend.features(batch)

    def _padded(self, audio: Sequence[Floats]) -> Floats:
        """Clips as rows `[batch, samples]`, filled up with zeros, cut to one window."""
        longest = min(max(map(len, audio)), round(self.window_s * self.sample_rate))
        batch = np.zeros((len(audio), max(longest, 1)), np.float32)
        for row, clip in zip(batch, audio, strict=True):
            row[: len(clip)] = clip[:longest]
        return batch

    def encode(self, features: Floats) -> Any:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        return self._backend.encode(without_silence(features) if self._shortens else features)

    def encoder_hidden(self, state: Any) -> Floats:
        """The encoder's output `[batch, positions, d_model]` in a state of `encode`."""
        return self._backend.encoder_hidden(state)

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        return self._backend.decode(tokens, state)

    def attend(self, tokens: Tokens, state: Any) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        return self._backend.attend(tokens, state)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times."""
        return self._backend.select(state, rows)

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        return self.vocabulary.first_prompt(options)

    def check(self, options: DecodeOptions) -> None:
        """RequestError for what this model cannot do: an unknown language or task, or times of words."""
        self.prompt(options)
        if options.word_timestamps and not self._aligns:
            raise RequestError(
                "word_timestamps: this model was built without the outputs that they are found with; "
                "build it with word_timestamps=true and decoder=kv_cache or basic"
            )

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded as one batch; RequestError as for `check`."""
        options = options or DecodeOptions()
        self.check(options)
        clips = self._clips(audio, options)
        for _ in self._read(clips, options):
            pass
        return [clip.transcript(self.vocabulary.text(clip.tokens)) for clip in clips]

    def stream(self, samples: Floats, options: DecodeOptions | None = None) -> Iterator[Segment]:
        """The segments of a clip `[samples]` as soon as their window is decoded; RequestError as above."""
        options = options or DecodeOptions()
        self.check(options)
        [clip] = clips = self._clips([samples], options)
        given = 0
        for _ in self._read(clips, options):
            yield from clip.segments[given:]
            given = len(clip.segments)

    def _clips(self, audio: Sequence[Floats], options: DecodeOptions) -> list[Clip]:
        """The clips with their features: those of one window at most are computed as one batch."""
        language, size = self.vocabulary.spoken(options), round(self.window_s * self.sample_rate)
        short = [samples for samples in audio if len(samples) <= size]
        batch = iter(self.features(short) if short else ())
        return [
            Clip(
                next(batch) if len(samples) <= size else whole_features(self._front_end, samples, size),
                len(samples) / self.sample_rate,
                language,
            )
            for samples in audio
        ]

    def _read(self, clips: Sequence[Clip], options: DecodeOptions) -> Iterator[None]:
        """Read short clips as asked, and those longer than a window by the sequential algorithm."""
        reading = self._reading(self, self._rules, self._generation, self._dims, options)
        long = [clip for clip in clips if clip.seconds > self.window_s]
        yield from reading.read([clip for clip in clips if clip.seconds <= self.window_s])
        yield from reading.for_long().read(long)


def without_silence(features: Floats) -> Floats:
    """`features` `[batch, mels, frames]` without what is padding in every row, half a second of it kept.

    Padding, and digital silence, has the same value in all mels. The length is rounded up to a multiple of 32 frames,
    so that clips of like length share their buffers.
    """
    sounding = np.flatnonzero((np.ptp(features, axis=1) > 0).any(axis=0))
    needed = (int(sounding[-1]) + 1 if len(sounding) else 0) + KEPT_FRAMES
    return features[:, :, : min(features.shape[2], -(-needed // 32) * 32)]


def _open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> Backend:
    runtime = str(table["metadata"].get("runtime", "onnxruntime"))
    if runtime not in BACKENDS:
        raise RequestError(f"{directory}: made for the runtime {runtime!r}; known are {', '.join(BACKENDS)}")
    module = importlib.import_module(f"{__package__}.{BACKENDS[runtime]}")
    backend: Backend = module.open_backend(directory, table, threads)
    return backend
