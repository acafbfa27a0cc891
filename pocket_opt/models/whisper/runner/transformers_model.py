"""The source model in its own framework: PyTorch through transformers, decoded by `generate()`. Level NONE is this.

It is the reference that every variant is compared with. Audio longer than the model's window is decoded by generate()'s
own sequential algorithm, one clip at a time: in a batch it gives clips the settings of their neighbours.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .cross_attention import split_heads
from .long_form import STRIDE, Clip
from .rules import Tokens
from .transcript import DecodeOptions, Fallback, Segment, Transcript, Word
from .vocabulary import Vocabulary
from .word_times import Attention, Compared, Heads, Spoken, TokenTimes, alignment_heads, token_times

# torch and transformers are imported when a model is opened: --help and usage errors need none of them.


State = tuple[Any, Any]
"""The encoder's output `[batch, positions, d_model]`, and the cache, which `decode` extends in place."""


@dataclass
class _Heard:
    """What a clip of so many seconds has given so far."""

    seconds: float
    language: str | None
    tokens: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)


class TransformersModel:
    """The checkpoint and the processor in `directory`, fp32 on the CPU; `threads` 0 leaves their number to PyTorch.

    Attributes:
        sample_rate: Hz of the audio it expects.
        window_s: seconds that the encoder sees at once.
        load_seconds: time that opening took.
        vocabulary: its special ids and languages.
    """

    stepwise = True

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        import torch
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        if threads:
            torch.set_num_threads(threads)
        self._extractor = WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
        self._model: Any = WhisperForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        self.sample_rate = int(self._extractor.sampling_rate)
        self.window_s = self._extractor.n_samples / self.sample_rate
        self._time_s: float = self.window_s / self._model.config.max_source_positions
        self._frames = int(self._extractor.nb_max_frames)
        self._generation = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
        self.vocabulary = Vocabulary(directory / "tokenizer.json", self._generation)
        self.load_seconds = time.perf_counter() - began

    def features(self, audio: Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        batch = self._extractor(list(audio), sampling_rate=self.sample_rate, return_tensors="np")
        return np.asarray(batch.input_features, np.float32)

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`."""
        import torch

        with torch.inference_mode():
            return self._model.get_encoder()(torch.from_numpy(features)).last_hidden_state, None

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state[0].numpy())

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]`: logits `[batch, length, vocab]`, and the state, of which the cache grew."""
        import torch

        hidden, cache = state
        fed = torch.from_numpy(tokens)
        with torch.inference_mode():
            output = self._model(
                encoder_outputs=(hidden,), decoder_input_ids=fed, past_key_values=cache, use_cache=True
            )
        return output.logits.numpy(), (hidden, output.past_key_values)

    def select(self, state: State, rows: Sequence[int]) -> State:
        """The state of some rows, in this order; the cache is changed in place."""
        import torch

        hidden, cache = state
        index = torch.tensor(rows)
        with torch.inference_mode():
            if cache is not None:
                cache.reorder_cache(index)
            return hidden[index], cache

    def attend(self, tokens: Tokens, state: State) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        layers = [layer.encoder_attn for layer in self._model.get_decoder().layers]
        queries: dict[int, Any] = {}
        hooks = [
            layer.q_proj.register_forward_hook(
                lambda _module, _given, found, index=index: queries.update({index: found})
            )
            for index, layer in enumerate(layers)
        ]
        logits, (_, cache) = self.decode(tokens, state)
        for hook in hooks:
            hook.remove()
        keys = cache.cross_attention_cache.layers
        told = {
            index: Compared(
                split_heads(queries[index].numpy() * layer.scaling, layer.num_heads), keys[index].keys.numpy()
            )
            for index, layer in enumerate(layers)
        }
        return logits, told

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        return self.vocabulary.first_prompt(options)

    def check(self, options: DecodeOptions) -> None:
        """RequestError for what the model cannot do: an unknown language or task, or alignment heads it lacks."""
        self.prompt(options)
        if options.word_timestamps:
            self._heads()

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded as one batch; RequestError as for `check`."""
        options = options or DecodeOptions()
        self.check(options)
        language = self.vocabulary.spoken(options)
        heard = [_Heard(len(samples) / self.sample_rate, language) for samples in audio]
        size = round(self.window_s * self.sample_rate)
        if short := [row for row, samples in enumerate(audio) if len(samples) <= size]:
            features = self.features([audio[row] for row in short])
            self._hear([heard[row] for row in short], features, options, {"do_sample": False})
        for clip, samples in zip(heard, audio, strict=True):
            if len(samples) > size:
                features = self._whole_features(samples)
                self._hear([clip], features, replace(options, timestamps=True), _long_form(options))
        return [
            Transcript(
                self.vocabulary.text(clip.tokens), tuple(clip.tokens), tuple(clip.segments), clip.language
            )
            for clip in heard
        ]

    def stream(self, samples: Floats, options: DecodeOptions | None = None) -> Iterator[Segment]:
        """The segments of a clip `[samples]`, all at once: generate() gives none before it has them all."""
        yield from self.transcribe([samples], options)[0].segments

    def _whole_features(self, samples: Floats) -> Floats:
        """Log-mel `[1, mels, frames]` of a whole clip `[samples]`, neither padded nor cut."""
        batch = self._extractor(
            samples, sampling_rate=self.sample_rate, truncation=False, padding="longest", return_tensors="np"
        )
        return np.asarray(batch.input_features, np.float32)

    def _hear(
        self, clips: list[_Heard], features: Floats, options: DecodeOptions, how: dict[str, Any]
    ) -> None:
        """Decode features `[batch, mels, frames]` in one call of generate(), with the settings `how` besides."""
        if self.vocabulary.languages and not clips[0].language:
            self._detect_languages(clips, features[:, :, : self._frames])
        found = self._generate(features, clips, options, how)
        for clip, row, parts in zip(clips, features, found, strict=True):
            words = self._words(clip, row, parts) if options.word_timestamps else itertools.repeat(())
            for part, said in zip(parts, words, strict=False):
                tokens, begin = part["tokens"].tolist(), self._origin(part)
                clip.tokens += tokens
                heard = self.vocabulary.segment(tokens, *self._span(clip, begin), self._time_s)
                clip.segments += [replace(segment, words=said) for segment in heard]

    def _span(self, clip: _Heard, begin: float) -> tuple[float, float]:
        """Begin and end, in seconds, of the window that begins there."""
        return begin, min(begin + self.window_s, clip.seconds)

    def _words(
        self, clip: _Heard, features: Floats, parts: list[dict[str, Any]]
    ) -> Iterator[tuple[Word, ...]]:
        """The words of each segment, from the whole window in which it was decoded, of `features` `[mels, frames]`."""
        window, prompt = None, 0
        for part in parts:
            first, begin, tokens = part["idxs"][0], self._origin(part), part["tokens"].tolist()
            if part["result"] is not window:
                window, prompt = part["result"], first
                times = self._times(clip, features, begin, (window[:first].tolist(), window[first:].tolist()))
            told, span = times.part(first - prompt, len(tokens)), self._span(clip, begin)
            yield told.words(tokens, self.vocabulary, clip.language, span, self._time_s)

    def _times(
        self, heard: _Heard, features: Floats, begin: float, sequence: tuple[list[int], list[int]]
    ) -> TokenTimes:
        """When the tokens were spoken that followed a prompt in the window that begins at `begin` seconds."""
        clip = Clip(features, heard.seconds, heard.language, round(begin / self._time_s * STRIDE))
        prompt, tokens = sequence
        if self.vocabulary.end in tokens:
            tokens = tokens[: tokens.index(self.vocabulary.end)]
        state = self.encode(clip.window(self._frames)[None])
        spoken = Spoken(state, prompt, tokens, clip.positions(self._frames, self.window_s))
        return token_times(self, spoken, self._heads(), self.vocabulary)

    def _heads(self) -> Heads:
        config = self._model.config
        return alignment_heads(self._generation, config.decoder_layers, config.decoder_attention_heads)

    def _detect_languages(self, clips: list[_Heard], features: Floats) -> None:
        """Give each clip its most probable language."""
        import torch

        codes = {index: code for code, index in self.vocabulary.languages.items()}
        found = self._model.detect_language(torch.from_numpy(features)).tolist()
        for clip, index in zip(clips, found, strict=True):
            clip.language = codes[index]

    def _generate(
        self, features: Floats, clips: list[_Heard], options: DecodeOptions, how: dict[str, Any]
    ) -> list[list[dict[str, Any]]]:
        """The segments of each row, as generate() gives them."""
        import torch

        wanted: dict[str, Any] = {"return_timestamps": options.timestamps, "num_beams": options.beams}
        if options.beams > 1:
            wanted["length_penalty"] = options.length_penalty
        if self.vocabulary.languages:
            wanted |= {"language": [clip.language for clip in clips], "task": options.task}
        if options.max_new_tokens is not None:
            positions = self._model.config.max_target_positions
            told = positions // 2 if options.condition_on_previous and len(clips) == 1 else 0
            longest = positions - told - len(self.prompt(options))  # generate() refuses a limit beyond
            wanted["max_new_tokens"] = min(options.max_new_tokens, longest)
        if options.fallback:
            torch.manual_seed(options.fallback.seed)
        found = self._model.generate(torch.from_numpy(features), return_segments=True, **wanted, **how)
        segments: list[list[dict[str, Any]]] = found["segments"]
        return segments

    def _origin(self, part: dict[str, Any]) -> float:
        """The second of the window from which the pass that gave a segment was decoded.

        generate() states it as `start` for a pass with one segment, and leaves it to be derived from `end` otherwise.
        """
        first = self.vocabulary.timestamp_begin
        times = [token - first for token in part["tokens"].tolist() if token >= first]
        if not times or not times[0]:
            return float(part["start"])
        told = int(times[min(1, len(times) - 1)])
        return float(part["end"]) - told * self._time_s


def _long_form(options: DecodeOptions) -> dict[str, Any]:
    """Arguments of generate() for audio longer than a window."""
    fallback = options.fallback or Fallback((0.0,), None, None, None)
    return {
        "temperature": fallback.temperatures,
        "compression_ratio_threshold": fallback.compression_ratio,
        "logprob_threshold": fallback.logprob,
        "no_speech_threshold": fallback.no_speech,
        "condition_on_prev_tokens": options.condition_on_previous,
        "top_k": 0,  # draws are from all tokens, as in the paper
    }


def quiet() -> None:
    """Let transformers print nothing but errors."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
