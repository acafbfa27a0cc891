"""A Whisper model that is one graph from samples to text, on the CPU with ONNX Runtime.

The graph decodes a window. What is left to do here is what it cannot know: where in the window speech goes on after
what was understood (with times), and that audio goes on behind it. Audio longer than a window is read by the
sequential algorithm of `long_form`: the graph gives the features of its windows, and is given those of the whole
recording from where it is to read on. It takes the most probable tokens, so there are no other temperatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .audio import Floats, as_wave
from .long_form import Clip, Decoded, Model, Reading
from .mel import whole_features
from .onnxruntime_backend import open_session
from .search import Found
from .transcript import DecodeOptions, Fallback, RequestError
from .whisper import Whisper

COMPONENT, FEATURES = "all_in_one", "log_mel"


@dataclass
class Window(Clip):
    """A clip with its samples in place of features if it is of one window at most, else None."""

    samples: Floats | None = None


class Listener(Model, Protocol):
    """What decodes a window at one go."""

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens."""
        ...

    def listen(self, windows: Sequence[Window], options: DecodeOptions, most: int) -> list[Found]:
        """At most `most` tokens of each window from its frame `seek` on; fills in languages."""
        ...


@dataclass(frozen=True)
class WindowReading(Reading):
    """Reads windows with a model that decodes each at one go."""

    model: Listener

    def read(self, clips: Sequence[Clip]) -> Iterator[None]:
        """Decode what is left of every window, as one batch, at each step."""
        limit = int(self.generation.get("max_length") or 20)
        prompt, positions = len(self.model.prompt(self.options)), int(self.dims["target_positions"])
        while rows := [clip for clip in clips if isinstance(clip, Window) and not clip.ended]:
            limit = min(limit + prompt, positions)
            most = self._limit(limit, prompt, positions) - prompt
            for window, found in zip(rows, self.model.listen(rows, self.options, most), strict=True):
                self._hear(window, Decoded(found))
            yield


class AllInOne(Whisper):
    """As `Whisper`, but nothing is to be had between samples and text."""

    stepwise = False
    _reading = WindowReading

    def _open(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:
        settings = table["metadata"].get("session", {})
        file = directory / table["components"][COMPONENT]["files"][0]
        self._graph = open_session(file, settings, threads)
        self._names = [port.name for port in self._graph.get_outputs() if port.name != FEATURES]
        self._searches = "beams" in [port.name for port in self._graph.get_overridable_initializers()]
        self._takes_files = bool(settings.get("extensions"))

    def check(self, options: DecodeOptions) -> None:
        """RequestError as for every model, and for a search that this graph does not have."""
        if options.beams > 1 and not self._searches:
            raise RequestError(
                f"beams {options.beams}: this graph decodes greedily, so 1 is all it knows; one that is made with"
                " decoding=beam searches by 1 to 5"
            )
        if options.condition_on_previous:
            raise RequestError("condition_on_previous: this graph cannot be told what was said; leave it out")
        if options.fallback not in (None, Fallback()):
            raise RequestError(
                "fallback: this graph draws no tokens, so every window is decoded once; leave it out"
            )
        super().check(options)

    def _front_end(self, batch: Floats) -> Floats:
        """Log-mel of samples `[batch, samples]`; the encoder and two steps run as well, for a graph runs whole."""
        features: Floats = self._run({"audio": batch, "max_new_tokens": np.array([1])}, [FEATURES])[FEATURES]
        return features

    def _clips(self, audio: Sequence[Floats], options: DecodeOptions) -> list[Clip]:
        """Short clips with their samples, which the graph takes; longer ones with the features of all."""
        language, size = self.vocabulary.spoken(options), round(self.window_s * self.sample_rate)
        return [
            Window(
                self._nothing if len(samples) <= size else whole_features(self._front_end, samples, size),
                len(samples) / self.sample_rate,
                language,
                samples=samples if len(samples) <= size else None,
            )
            for samples in audio
        ]

    def hear(self, audio: Sequence[Floats], options: DecodeOptions, *, new_tokens: int) -> list[str]:
        """The texts of the first windows of clips, each of exactly `new_tokens` tokens; for measurements."""
        forced = {name: np.array([new_tokens]) for name in ("max_new_tokens", "min_new_tokens")}
        found = self._run({"audio": self._padded(audio), **self._request(options), **forced}, ["text"])
        return [str(text) for text in found["text"]]

    def listen(self, windows: Sequence[Window], options: DecodeOptions, most: int) -> list[Found]:
        """At most `most` tokens of each window from its frame `seek` on; fills in languages."""
        feeds = {**self._sound(windows), "max_new_tokens": np.array([most]), **self._request(options)}
        if self.vocabulary.languages:
            feeds["language"] = np.array([window.language or "" for window in windows])
        found = self._run(feeds, self._names)
        for window, code in zip(windows, found.get("spoken_language", ()), strict=False):
            window.language = str(code)
        return [self._found(found, row) for row in range(len(windows))]

    @property
    def _nothing(self) -> Floats:
        """Features of one window, of which nobody looks at more than their number."""
        return np.zeros((0, 2 * int(self._dims["source_positions"])), np.float32)

    def _sound(self, windows: Sequence[Window]) -> dict[str, Any]:
        """What the graph hears: samples from a frame on, or features."""
        samples = [window.samples for window in windows if window.samples is not None]
        if len(samples) == len(windows):
            starts = np.array([window.seek for window in windows])
            return {"audio": self._padded(samples), "start_frame": starts}
        frames = 2 * int(self._dims["source_positions"])
        features = np.stack([window.window(frames) for window in windows])
        return {"audio": np.zeros((len(windows), 1), np.float32), "features": features}

    def _request(self, options: DecodeOptions) -> dict[str, Any]:
        """The inputs that are alike for all clips."""
        feeds: dict[str, Any] = {"timestamps": np.array([options.timestamps])}
        if self._searches:
            feeds["beams"] = np.array([options.beams])
            feeds["length_penalty"] = np.array([options.length_penalty], np.float32)
        if self.vocabulary.languages:
            feeds["task"] = np.array([options.task])
            feeds["language"] = np.array([self.vocabulary.spoken(options) or ""])
        return feeds

    def _run(self, feeds: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
        """The graph's outputs `names` for all rows; a graph that takes files is given them one by one."""
        if not self._takes_files:
            return dict(zip(names, self._graph.run(names, feeds), strict=True))
        count, found = len(feeds["audio"]), []
        for row in range(count):
            part = {
                name: value[row : row + 1] if len(value) == count else value for name, value in feeds.items()
            }
            [samples] = part.pop("audio")
            part["audio_bytes"] = as_wave(samples, self.sample_rate)
            found.append(dict(zip(names, self._graph.run(names, part), strict=True)))
        return {name: _stacked([answer[name] for answer in found], self.vocabulary.pad) for name in names}

    def _found(self, found: Mapping[str, Any], row: int) -> Found:
        """A row of the graph's answer, as the host's own search gives it."""
        tokens: list[int] = found["tokens"][row].tolist()
        ended = self.vocabulary.end in tokens
        said = tokens[: tokens.index(self.vocabulary.end)] if ended else tokens
        steps = len(said) + ended
        return Found(
            said, float(found["avg_logprob"][row]) * steps, steps, float(found["no_speech_prob"][row])
        )


def _stacked(answers: Sequence[np.ndarray[Any, Any]], filler: int) -> np.ndarray[Any, Any]:
    """Answers for one row each as one for all; tokens `[1, length]` are filled up to one length."""
    if answers[0].ndim != 2:
        return np.concatenate(answers)
    size = max(answer.shape[1] for answer in answers)
    return np.concatenate(
        [np.pad(answer, ((0, 0), (0, size - answer.shape[1])), constant_values=filler) for answer in answers]
    )
