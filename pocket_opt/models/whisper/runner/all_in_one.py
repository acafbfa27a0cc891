"""A Whisper model that is one graph from samples to text, on the CPU with ONNX Runtime.

The graph decodes a window. What is left to do here is what it cannot know: where in the window speech goes on after
what was understood (with times), and that audio goes on behind it. Longer audio is cut into consecutive windows:
nothing is lost, but a word on a cut may be heard as two, and there is no fallback to other temperatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats, as_wave
from .long_form import Clip, Decoded, Reading
from .onnxruntime_backend import open_session
from .search import Found
from .transcript import DecodeOptions, RequestError, Segment, Transcript
from .whisper import Whisper

COMPONENT = "all_in_one"


@dataclass
class Window(Clip):
    """A clip of one window at most, with its samples in place of features."""

    samples: Floats = field(default_factory=lambda: np.zeros(0, np.float32))


class AllInOne(Whisper):
    """As `Whisper`, but nothing is to be had between samples and text."""

    stepwise = False

    def _open(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:
        settings = table["metadata"].get("session", {})
        file = directory / table["components"][COMPONENT]["files"][0]
        self._graph = open_session(file, settings, threads)
        self._names = [port.name for port in self._graph.get_outputs()]
        self._searches = "beams" in [port.name for port in self._graph.get_overridable_initializers()]
        self._takes_files = bool(settings.get("extensions"))

    def prompt(self, options: DecodeOptions) -> list[int]:
        """As for any model; RequestError also for a search that this graph does not have."""
        if options.beams > 1 and not self._searches:
            raise RequestError(
                f"beams {options.beams}: this graph decodes greedily, so 1 is all it knows; one that is made with"
                " decoding=beam searches by 1 to 5"
            )
        return super().prompt(options)

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded greedily as one batch.

        Raises:
            RequestError: an unknown language or task, or a search that the graph does not have.
        """
        options = options or DecodeOptions()
        self.prompt(options)
        size = round(self.window_s * self.sample_rate)
        heard: list[list[Window]] = [[] for _ in audio]
        for begin in range(0, max((len(samples) or 1 for samples in audio), default=0), size):
            rows = [row for row, samples in enumerate(audio) if begin < (len(samples) or 1)]
            for row in rows:
                language = heard[row][0].language if heard[row] else self.vocabulary.spoken(options)
                heard[row].append(self._window(audio[row][begin : begin + size], language))
            reading = WindowReading(self, self._rules, self._generation, self._dims, options)
            for _ in reading.read([heard[row][-1] for row in rows]):
                pass
        return [self._joined(windows) for windows in heard]

    def stream(self, samples: Floats, options: DecodeOptions | None = None) -> Iterator[Segment]:
        """The segments of a clip `[samples]`; RequestError as above."""
        yield from self.transcribe([samples], options)[0].segments

    def hear(self, audio: Sequence[Floats], options: DecodeOptions, *, new_tokens: int) -> list[str]:
        """The texts of the first windows of clips, each of exactly `new_tokens` tokens; for measurements."""
        forced = {name: np.array([new_tokens]) for name in ("max_new_tokens", "min_new_tokens")}
        found = self._run({"audio": self._padded(audio), **self._request(options), **forced})
        return [str(text) for text in found["text"]]

    def listen(self, windows: Sequence[Window], options: DecodeOptions, most: int) -> list[Found]:
        """At most `most` tokens of each window from its frame `seek` on; fills in languages."""
        feeds = {
            "audio": self._padded([window.samples for window in windows]),
            "start_frame": np.array([window.seek for window in windows]),
            "max_new_tokens": np.array([most]),
            **self._request(options),
        }
        if self.vocabulary.languages:
            feeds["language"] = np.array([window.language or "" for window in windows])
        found = self._run(feeds)
        for window, code in zip(windows, found.get("spoken_language", ()), strict=False):
            window.language = str(code)
        return [self._found(found, row) for row in range(len(windows))]

    def _window(self, samples: Floats, language: str | None) -> Window:
        nothing = np.zeros((0, 2 * int(self._dims["source_positions"])), np.float32)
        return Window(nothing, len(samples) / self.sample_rate, language, samples=samples)

    def _joined(self, windows: Sequence[Window]) -> Transcript:
        """The transcript of windows that follow one another."""
        whole = replace(windows[0], tokens=[], segments=[], logprob=0.0, steps=0)
        for number, window in enumerate(windows):
            at = number * self.window_s
            whole.tokens += window.tokens
            whole.segments += [
                Segment(round(at + part.start, 3), round(at + part.end, 3), part.text)
                for part in window.segments
            ]
            whole.logprob += window.logprob
            whole.steps += window.steps
        return whole.transcript(self.vocabulary.text(whole.tokens))

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

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's answer for all rows; a graph that takes files is given them one by one."""
        if not self._takes_files:
            return dict(zip(self._names, self._graph.run(self._names, feeds), strict=True))
        count = len(feeds["audio"])
        rows = [
            {name: value[row : row + 1] if len(value) == count else value for name, value in feeds.items()}
            for row in range(count)
        ]
        found = []
        for row in rows:
            [samples] = row.pop("audio")
            row["audio_bytes"] = as_wave(samples, self.sample_rate)
            found.append(self._graph.run(self._names, row))
        longest = max(answer[self._names.index("tokens")].shape[1] for answer in found)
        return {
            name: np.concatenate([_widened(answer[place], longest, self.vocabulary.pad) for answer in found])
            for place, name in enumerate(self._names)
        }

    def _found(self, found: Mapping[str, Any], row: int) -> Found:
        """A row of the graph's answer, as the host's own search gives it."""
        tokens: list[int] = found["tokens"][row].tolist()
        ended = self.vocabulary.end in tokens
        said = tokens[: tokens.index(self.vocabulary.end)] if ended else tokens
        steps = len(said) + ended
        return Found(
            said, float(found["avg_logprob"][row]) * steps, steps, float(found["no_speech_prob"][row])
        )


def _widened(rows: np.ndarray[Any, Any], size: int, filler: int) -> np.ndarray[Any, Any]:
    """`rows` `[batch, length]` filled up to `size`; what has no length is as it was."""
    if rows.ndim == 1:
        return rows
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])), constant_values=filler)


@dataclass(frozen=True)
class WindowReading(Reading):
    """Reads windows with a model that decodes each at one go."""

    model: AllInOne

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
