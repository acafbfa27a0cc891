"""Recordings of any length, window after window: the sequential algorithm of the Whisper paper (Radford et al. 2022,
section 4.5) as generate() of transformers has it.

A window is decoded with times; the next one begins where the last complete segment ended. What is decoded badly (it
compresses too well, so it repeats itself, or is too improbable) is decoded again at the next temperature; what is
improbable and most likely no speech is left out. Short recordings pass through the same loop, by rules of their own:
see `Reading`.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from .audio import Floats
from .beam import beam
from .greedy import greedy, sample
from .rules import Rules, Tokens
from .search import Found, Prompted, Steps
from .transcript import DecodeOptions, Fallback, Segment, Transcript
from .word_times import Attention, Spoken, TokenTimes, alignment_heads, token_times

STRIDE = 2
"""Feature frames of one encoder position, which is the unit of times: the second convolution halves their number."""
CALM = 0.5
"""Text decoded at this temperature or above is not given to the next window: it may be anything."""


class Model(Steps, Protocol):
    """What is read with."""

    def encode(self, features: Floats) -> Any:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        ...

    def attend(self, tokens: Tokens, state: Any) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        ...


class Decoded(NamedTuple):
    """What was decoded of one window, at which temperature, and whether it counts as silence."""

    found: Found
    temperature: float = 0.0
    silent: bool = False


@dataclass
class Clip:
    """A recording, and what it has given so far.

    Attributes:
        features: log-mel `[mels, frames]`; all of them are read.
        seconds: length of the audio.
        language: given, or found in the first window.
        seek: the frame to read on from.
        said: tokens as the next window may be told of them: without the second of two closing times.
        calm: the last window was decoded at a low temperature.
        no_speech: probability in the first window.
        logprob: sum over `steps` predictions.
    """

    features: Floats
    seconds: float
    language: str | None
    seek: int = 0
    tokens: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    calm: bool = True
    no_speech: float | None = None
    logprob: float = 0.0
    steps: int = 0

    @property
    def ended(self) -> bool:
        """Nothing is left to read."""
        return self.seek >= int(self.features.shape[1])

    def positions(self, frames: int, window_s: float) -> int:
        """Encoder positions of the next window, which has `frames` in `window_s`, that are not padding."""
        heard = math.ceil(round(self.seconds * frames / window_s, 3))
        return min(heard - self.seek, int(self.features.shape[1]) - self.seek, frames) // STRIDE

    def window(self, frames: int) -> Floats:
        """The next `[mels, frames]`, filled up with zeros as transformers does."""
        part = self.features[:, self.seek : self.seek + frames]
        return np.pad(part, ((0, 0), (0, frames - part.shape[1])))

    def note(self, found: Found) -> None:
        """Add the probabilities of one more decoding; that of silence counts where the clip begins."""
        self.no_speech = found.no_speech if self.no_speech is None else self.no_speech
        self.logprob += found.logprob
        self.steps += found.steps

    def transcript(self, text: str) -> Transcript:
        """The result, with the words of `tokens`."""
        logprob = self.logprob / max(self.steps, 1)
        return Transcript(
            text, tuple(self.tokens), tuple(self.segments), self.language, self.no_speech, logprob
        )


@dataclass(frozen=True)
class Reading:
    """How clips are read.

    Attributes:
        options: for clips of one window at most, `timestamps` as asked and no fallback; see `for_long`.
        generation: the model's generation configuration.
        dims: the model's dimensions.
        fallback: None: every window is decoded once.
    """

    model: Model
    rules: Rules
    generation: Mapping[str, Any]
    dims: Mapping[str, Any]
    options: DecodeOptions
    fallback: Fallback | None = None

    def for_long(self) -> Reading:
        """The same for clips of more than one window: they need times, and may fall back."""
        return replace(self, options=replace(self.options, timestamps=True), fallback=self.options.fallback)

    def read(self, clips: Sequence[Clip]) -> Iterator[None]:
        """Decode one window of every clip that is left, as one batch, at each step."""
        limit = int(self.generation.get("max_length") or 20)  # 20 is generate()'s own default
        generator = np.random.default_rng(self.fallback.seed if self.fallback else 0)
        positions, frames = int(self.dims["target_positions"]), self._frames
        while rows := [clip for clip in clips if not clip.ended]:
            state = self.model.encode(np.stack([clip.window(frames) for clip in rows]))
            self._detect_languages(rows, state)
            prompts = [self._prompt(clip) for clip in rows]
            # generate() lets its limit grow by the prompt with every window.
            limit = min(limit + min(max(map(len, prompts)), positions // 2 - 1), positions)
            for places in _alike(prompts):
                prompted = Prompted(
                    state if len(places) == len(rows) else self.model.select(state, places),
                    np.array([prompts[place] for place in places], np.int64),
                    self._limit(limit, len(prompts[places[0]]), positions),
                    self.options.timestamps,
                )
                for row, decoded in enumerate(self._decode(prompted, generator)):
                    clip = rows[places[row]]
                    self._hear(clip, decoded, self._times(prompted, row, decoded, clip))
            yield

    @property
    def _frames(self) -> int:
        return STRIDE * int(self.dims["source_positions"])

    def _limit(self, limit: int, prompt: int, positions: int) -> int:
        new = self.options.max_new_tokens or self.generation.get("max_new_tokens")
        return min(new + prompt, positions) if new else limit

    def _prompt(self, clip: Clip) -> list[int]:
        vocabulary = self.rules.vocabulary
        forced = vocabulary.prompt(self.options, clip.language)
        if not (self.options.condition_on_previous and clip.calm and clip.said):
            return forced
        longest = int(self.dims["target_positions"]) // 2 - 1
        return [vocabulary.previous, *clip.said[-longest:], *forced]

    def _decode(self, prompted: Prompted, generator: np.random.Generator) -> list[Decoded]:
        """What was decoded for each row, of a fallback's temperatures at the first that gives something good."""
        if self.fallback is None:
            return [Decoded(found) for found in self._search(prompted, 0.0, generator)]
        end, vocab = self.rules.vocabulary.end, int(self.dims["vocab"])
        best: dict[int, Decoded] = {}
        left = list(range(len(prompted.prompts)))
        for temperature in self.fallback.temperatures:
            part = prompted
            if len(left) < len(prompted.prompts):
                state = self.model.select(prompted.state, left)
                part = replace(prompted, state=state, prompts=prompted.prompts[left])
            for row, found in zip(left, self._search(part, temperature, generator), strict=True):
                best[row] = Decoded(found, temperature, is_silence(found, self.fallback))
            left = [
                row
                for row in left
                if not best[row].silent and is_bad(best[row].found, self.fallback, end, vocab)
            ]
            if not left:
                break
        return [best[row] for row in range(len(best))]

    def _search(self, prompted: Prompted, temperature: float, generator: np.random.Generator) -> list[Found]:
        if temperature > 0:
            return sample(self.model, self.rules, prompted, temperature, generator)
        if self.options.beams > 1:
            beams, penalty = self.options.beams, self.options.length_penalty
            return beam(self.model, self.rules, prompted, beams, penalty)
        return greedy(self.model, self.rules, prompted)

    def _times(self, prompted: Prompted, row: int, decoded: Decoded, clip: Clip) -> TokenTimes | None:
        """When the tokens of one row were spoken, where that was asked for."""
        if not self.options.word_timestamps or decoded.silent:
            return None
        spoken = Spoken(
            self.model.select(prompted.state, [row]),
            prompted.prompts[row].tolist(),
            decoded.found.tokens,
            clip.positions(self._frames, float(self.dims["window_s"])),
        )
        heads = alignment_heads(
            self.generation, int(self.dims["decoder_layers"]), int(self.dims["decoder_heads"])
        )
        return token_times(self.model, spoken, heads, self.rules.vocabulary)

    def _hear(self, clip: Clip, decoded: Decoded, times: TokenTimes | None = None) -> None:
        """Add what a window gave, and move on to where the next begins."""
        frames = self._frames
        seconds = float(self.dims["window_s"]) / frames  # of a feature frame
        left = min(frames, clip.features.shape[1] - clip.seek)
        clip.calm = decoded.temperature < CALM
        clip.note(decoded.found)
        if decoded.silent:
            clip.seek += left
            return
        begin = self.rules.vocabulary.timestamp_begin
        runs, read_on = split_runs(decoded.found.tokens, begin)
        start = clip.seek * seconds
        place = 0
        for run in runs:
            clip.tokens += run
            clip.said += run[:-1] if len(run) > 2 and run[-2] >= begin else run
            end = min(start + frames * seconds, clip.seconds)
            heard = self.rules.vocabulary.segment(run, start, end, STRIDE * seconds)
            if times:
                part = times.part(place, len(run))
                words = part.words(run, self.rules.vocabulary, clip.language, (start, end), STRIDE * seconds)
                heard = [replace(segment, words=words) for segment in heard]
            clip.segments += heard
            place += len(run)
        clip.seek += read_on * STRIDE or left

    def _detect_languages(self, clips: Sequence[Clip], state: Any) -> None:
        """Give each clip that has none its most probable language."""
        languages = self.rules.vocabulary.languages
        if not languages or all(clip.language for clip in clips):
            return
        codes, ids = list(languages), list(languages.values())
        start = np.full((len(clips), 1), self.rules.vocabulary.start, np.int64)
        logits, _ = self.model.decode(start, state)
        for clip, best in zip(clips, logits[:, -1, ids].argmax(-1), strict=True):
            clip.language = clip.language or codes[best]


def is_bad(found: Found, fallback: Fallback, end: int, vocab: int) -> bool:
    """Whether a window is to be decoded again: it repeats itself, or is too improbable."""
    tokens = [*found.tokens, end] if found.steps > len(found.tokens) else found.tokens
    most, least = fallback.compression_ratio, fallback.logprob
    repeats = most is not None and compression_ratio(tokens, vocab) > most
    return repeats or (least is not None and found.avg_logprob < least)


def is_silence(found: Found, fallback: Fallback) -> bool:
    """Whether a window is improbable, and most likely no speech."""
    improbable = fallback.logprob is not None and found.avg_logprob < fallback.logprob
    return improbable and fallback.no_speech is not None and found.no_speech > fallback.no_speech


def compression_ratio(tokens: Sequence[int], vocab: int) -> float:
    """How many times smaller zlib makes the ids; above 1.35 they repeat themselves (the measure of transformers)."""
    width = int(math.log2(vocab) / 8) + 1
    raw = b"".join(token.to_bytes(width, "little") for token in tokens)
    return len(raw) / len(zlib.compress(raw))


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


def _alike(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of prompts of the same length: only they can be decoded as one batch."""
    lengths = sorted(set(map(len, prompts)))
    return [[place for place, prompt in enumerate(prompts) if len(prompt) == length] for length in lengths]
