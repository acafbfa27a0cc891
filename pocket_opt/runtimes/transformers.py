"""The reference: the source model in PyTorch, decoded by `generate()` of transformers. Level NONE is this."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import EncoderDecoderCache, WhisperForConditionalGeneration, WhisperProcessor

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.run import DecodeOptions, RequestError, Segment, Transcript, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import Audio, Floats, Tokens

State = tuple[torch.Tensor, EncoderDecoderCache | None]
"""The encoder's output `[batch, positions, d_model]`, and the cache, which `decode` extends in place."""


class TransformersRuntime:
    """`WhisperForConditionalGeneration` in `directory`, fp32 on the CPU.

    Attributes: as `pocket_opt.runtimes.base.SpeechRuntime`.
    """

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        if threads:
            torch.set_num_threads(threads)
        self._processor = WhisperProcessor.from_pretrained(directory, local_files_only=True)
        self._model: Any = WhisperForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        extractor, generation = self._processor.feature_extractor, directory / "generation_config.json"
        self.sample_rate = int(extractor.sampling_rate)
        self.window_s = extractor.n_samples / self.sample_rate
        self._time_s: float = self.window_s / self._model.config.max_source_positions
        self.vocabulary = Vocabulary(
            directory / "tokenizer.json", json.loads(generation.read_text(encoding="utf-8"))
        )
        self.load_seconds = time.perf_counter() - began

    def features(self, audio: Sequence[Audio]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        batch = self._processor.feature_extractor(
            list(audio), sampling_rate=self.sample_rate, return_tensors="np"
        )
        return np.asarray(batch.input_features, np.float32)

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`."""
        with torch.inference_mode():
            return self._model.get_encoder()(torch.from_numpy(features)).last_hidden_state, None

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state[0].numpy())

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]`: logits `[batch, length, vocab]`, and the state, of which the cache grew."""
        hidden, cache = state
        fed = torch.from_numpy(tokens)
        with torch.inference_mode():
            output = self._model(
                encoder_outputs=(hidden,), decoder_input_ids=fed, past_key_values=cache, use_cache=True
            )
        return output.logits.numpy(), (hidden, output.past_key_values)

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        language = options.language or next(iter(self.vocabulary.languages), "en")
        return self.vocabulary.prompt(options, self.vocabulary.language(language))

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, one batch; audio longer than the window in consecutive windows.

        Raises:
            UserError: the model does not know the language or the task.
        """
        try:
            self.prompt(options)
        except RequestError as error:
            raise UserError(str(error), fix="choose another language or task, or another model") from None
        tokens: list[list[int]] = [[] for _ in audio]
        segments: list[list[Segment]] = [[] for _ in audio]
        languages: list[str | None] = [options.language for _ in audio]
        size = round(self.window_s * self.sample_rate)
        for offset in range(0, max((len(clip) or 1 for clip in audio), default=0), size):
            rows = [row for row, clip in enumerate(audio) if offset < (len(clip) or 1)]
            features = self.features([audio[row][offset : offset + size] for row in rows])
            if not offset and not options.language:
                languages = self._detect(features)
            runs_by_row = self._generate(features, options, [languages[row] for row in rows])
            for row, runs in zip(rows, runs_by_row, strict=True):
                tokens[row] += [token for _, run in runs for token in run]
                segments[row] += self._segments(
                    runs, offset / self.sample_rate, len(audio[row]) / self.sample_rate
                )
        return [
            Transcript(self.vocabulary.text(found), tuple(found), tuple(parts), self._code(language))
            for found, parts, language in zip(tokens, segments, languages, strict=True)
        ]

    def _detect(self, features: Floats) -> list[str | None]:
        """The most probable language of each row; None for an English-only model."""
        if not self.vocabulary.languages:
            return [None] * len(features)
        codes = {index: code for code, index in self.vocabulary.languages.items()}
        return [codes[index] for index in self._model.detect_language(torch.from_numpy(features)).tolist()]

    def _code(self, language: str | None) -> str | None:
        return self.vocabulary.language(language) if language and self.vocabulary.languages else None

    def _generate(
        self, features: Floats, options: DecodeOptions, languages: list[str | None]
    ) -> list[list[tuple[float, list[int]]]]:
        """For each row and segment: the second that its times count from, and its tokens."""
        wanted: dict[str, Any] = {"return_timestamps": options.timestamps}
        if self.vocabulary.languages:
            wanted |= {"language": [self._code(language) for language in languages], "task": options.task}
        if options.max_new_tokens is not None:
            room = self._model.config.max_target_positions - len(self.prompt(options))
            wanted["max_new_tokens"] = min(options.max_new_tokens, room)
        found = self._model.generate(
            torch.from_numpy(features), return_segments=True, do_sample=False, num_beams=1, **wanted
        )
        return [[(self._origin(part), part["tokens"].tolist()) for part in row] for row in found["segments"]]

    def _origin(self, part: dict[str, Any]) -> float:
        """The second from which the pass that gave a segment was decoded.

        generate() states it as `start` for a pass with one segment, and leaves it to be derived from `end` otherwise.
        """
        first = self.vocabulary.timestamp_begin
        times = [token - first for token in part["tokens"].tolist() if token >= first]
        if not times or not times[0]:
            return float(part["start"])
        told = int(times[min(1, len(times) - 1)])
        return float(part["end"]) - told * self._time_s

    def _segments(self, runs: list[tuple[float, list[int]]], offset: float, duration: float) -> list[Segment]:
        end = min(offset + self.window_s, duration)
        parts = (self.vocabulary.segment(run, offset + origin, end, self._time_s) for origin, run in runs)
        return [segment for part in parts for segment in part]


def open_model(artifact: Artifact, *, threads: int = 0) -> TransformersRuntime:
    """Open the checkpoint and the processor at the root of `artifact`."""
    return TransformersRuntime(artifact.root, threads=threads)
