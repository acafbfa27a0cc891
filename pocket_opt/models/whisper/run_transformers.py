"""Transcribe audio files with the Whisper model that lies beside this file (PyTorch, through transformers).

    python run.py FILE... [--language de] [--task translate] [--timestamps] [--json] [--threads N]

Needs torch, transformers and soundfile, and may be moved together with its directory. This is the source model in its
own framework, the reference that smaller variants are compared with, decoded greedily by `generate()`. Audio longer
than the model's window is cut into consecutive windows that are decoded independently, in the language of the first.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

# torch, transformers and soundfile are imported where they are used: --help and usage errors need none of them.

Floats = np.ndarray[Any, np.dtype[np.float32]]
RATES = (1_000, 1_000_000)  # Hz that are taken for real
TASKS = ("transcribe", "translate")


class AudioError(ValueError):
    """A file cannot be read as audio."""


class RequestError(ValueError):
    """What was asked for is beyond the model: a language or a task."""


@dataclass
class Heard:
    """What a clip has given so far.

    Attributes:
        text: the words, without special tokens.
        tokens: generated ids, without prompt, end token and padding.
        segments: timed pieces of the text (`start`, `end` in seconds, `text`); without timestamps, one for each window.
        language: code of the language given or detected (in the first window); None for English-only models.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    segments: list[dict[str, Any]] = field(default_factory=list)
    language: str | None = None


class Model:
    """The checkpoint and the processor in `directory`, fp32 on the CPU; `threads` 0 leaves their number to PyTorch.

    Attributes:
        sample_rate: Hz of the audio it expects.
        window_s: seconds that the encoder sees at once.
        languages: code -> id; empty for an English-only model.
    """

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        if threads:
            torch.set_num_threads(threads)
        processor = WhisperProcessor.from_pretrained(directory, local_files_only=True)
        self._extractor, self._tokenizer = processor.feature_extractor, processor.tokenizer
        self._model: Any = WhisperForConditionalGeneration.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        self.sample_rate = int(self._extractor.sampling_rate)
        self.window_s = self._extractor.n_samples / self.sample_rate
        self._time_s: float = self.window_s / self._model.config.max_source_positions
        generation = self._model.generation_config.to_dict()
        named = self._tokenizer.convert_tokens_to_ids("<|notimestamps|>")
        self._first_time: int = generation.get("no_timestamps_token_id", named) + 1
        languages = generation.get("lang_to_id", {}) if generation.get("is_multilingual", True) else {}
        self.languages: dict[str, int] = {token.strip("<|>"): index for token, index in languages.items()}

    def check(self, language: str | None, task: str) -> str | None:
        """The code that `language` ("de", "<|de|>") stands for; RequestError for what the model does not know."""
        code, known = (language or "").lower().strip("<|>"), sorted(self.languages) or ["en"]
        if code and code not in known:
            raise RequestError(f"language {language!r}: this model knows {', '.join(known)}")
        if task not in (tasks := TASKS if self.languages else TASKS[:1]):
            raise RequestError(f"task {task!r}: this model knows {', '.join(tasks)}")
        return code or None

    def features(self, audio: Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        batch = self._extractor(list(audio), sampling_rate=self.sample_rate, return_tensors="np")
        return np.asarray(batch.input_features, np.float32)

    def hear(
        self,
        audio: Sequence[Floats],
        language: str | None,
        task: str,
        *,
        timestamps: bool,
        limit: int | None = None,
    ) -> list[Heard]:
        """What the clips `[samples]` give, decoded as one batch.

        Args:
            language: a code; None: detect it for each clip.
            limit: most tokens to generate a window; None: what the model's generation configuration says.
        """
        heard = [Heard(language=language if self.languages else None) for _ in audio]
        size = round(self.window_s * self.sample_rate)
        for offset in range(0, max((len(clip) or 1 for clip in audio), default=0), size):
            rows = [row for row, clip in enumerate(audio) if offset < (len(clip) or 1)]
            features = self.features([audio[row][offset : offset + size] for row in rows])
            clips, at = [heard[row] for row in rows], offset / self.sample_rate
            if self.languages and not clips[0].language:
                self._detect_languages(clips, features)
            found = self._generate(features, clips, task, timestamps=timestamps, limit=limit)
            for row, clip, parts in zip(rows, clips, found, strict=True):
                end = min(at + self.window_s, len(audio[row]) / self.sample_rate)
                for part in parts:
                    tokens = part["tokens"].tolist()
                    clip.tokens += tokens
                    clip.segments += self._segment(tokens, at + self._origin(part), end)
        for clip in heard:
            clip.text = self._text(clip.tokens)
        return heard

    def _detect_languages(self, clips: list[Heard], features: Floats) -> None:
        """Give each clip its most probable language."""
        import torch

        codes = {index: code for code, index in self.languages.items()}
        found = self._model.detect_language(torch.from_numpy(features)).tolist()
        for clip, index in zip(clips, found, strict=True):
            clip.language = codes[index]

    def _generate(
        self, features: Floats, clips: list[Heard], task: str, *, timestamps: bool, limit: int | None
    ) -> list[list[dict[str, Any]]]:
        """The segments of each row, as generate() gives them."""
        import torch

        wanted: dict[str, Any] = {"return_timestamps": timestamps}
        if self.languages:
            wanted |= {"language": [clip.language for clip in clips], "task": task}
        if limit is not None:
            wanted["max_new_tokens"] = limit
        found = self._model.generate(
            torch.from_numpy(features), return_segments=True, do_sample=False, num_beams=1, **wanted
        )
        segments: list[list[dict[str, Any]]] = found["segments"]
        return segments

    def _origin(self, part: dict[str, Any]) -> float:
        """The second of the window from which the pass that gave a segment was decoded.

        generate() states it as `start` for a pass with one segment, and leaves it to be derived from `end` otherwise.
        """
        times = [token - self._first_time for token in part["tokens"].tolist() if token >= self._first_time]
        if not times or not times[0]:
            return float(part["start"])
        told = int(times[min(1, len(times) - 1)])
        return float(part["end"]) - told * self._time_s

    def _text(self, tokens: list[int]) -> str:
        """The words of `tokens`, without times and special tokens."""
        words = [token for token in tokens if token < self._first_time]
        return str(self._tokenizer.backend_tokenizer.decode(words, skip_special_tokens=True)).strip()

    def _segment(self, tokens: list[int], begin: float, end: float) -> list[dict[str, Any]]:
        """What a run of tokens says between `begin` and `end`, its times counting from `begin`; empty without words."""
        first = self._first_time
        times = [begin + (token - first) * self._time_s for token in tokens if token >= first]
        opens = min(times.pop(0) if times and tokens[0] >= first else begin, end)
        closes = max(opens, min([*times[:1], end]))
        text = self._text(tokens)
        return [{"start": round(opens, 3), "end": round(closes, 3), "text": text}] if text else []


def read_audio(path: Path, sample_rate: int) -> Floats:
    """Mono samples `[samples]` in -1..1 at `sample_rate` Hz of a wav, flac, ogg or mp3 file.

    Raises AudioError if it is missing, empty, damaged, cut short (mp3 cannot tell), or of a kind not read here.
    """
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path}: there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised = file.samplerate, file.frames
            if file.format == "MP3" or promised > 1 << 60:  # only estimated, or left open by a stream
                promised = 0
            # Otherwise soundfile seeks after every block, which fails at the end of a stream.
            file.seekable = lambda: False
            blocks = [np.zeros(0, np.float32)]
            while len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: cannot be read as wav, flac, ogg or mp3 ({error})") from error
    samples = np.concatenate(blocks)
    if len(samples) < promised:
        raise AudioError(f"{path}: damaged, only {len(samples)} of {promised} samples can be read")
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: damaged, or not speech: a rate of {rate} Hz")
    if not len(samples) or not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds {'values that are no numbers' if len(samples) else 'no samples'}")
    return resample(samples, rate, sample_rate)


def resample(samples: Floats, rate: int, wanted: int) -> Floats:
    """Band-limited resampling of `[samples]` to `[ceil(samples * wanted / rate)]`.

    Windowed sinc, see J. O. Smith, "Digital Audio Resampling Home Page", ccrma.stanford.edu/~jos/resample. Polyphase:
    output n lies at input n * rate / wanted, so outputs `wanted / gcd` apart share one filter.
    """
    if rate == wanted:
        return samples
    total = -(-len(samples) * wanted // rate)
    step = math.gcd(rate, wanted)
    down, up, half, filters = _filters(rate // step, wanted // step)
    groups = -(-total // up)
    padded = np.zeros((groups + 1) * down + 2 * half + 1, np.float32)
    padded[half : half + len(samples)] = samples
    result = np.empty((groups, up), np.float32)
    for first, start, matrix in filters:
        frames = np.lib.stride_tricks.sliding_window_view(padded[start:], len(matrix))[::down][:groups]
        result[:, first : first + matrix.shape[1]] = frames @ matrix
    return result.reshape(-1)[:total]


@lru_cache(maxsize=2)
def _filters(down: int, up: int) -> tuple[int, int, int, list[tuple[int, int, Floats]]]:
    """The filters for `up` outputs from `down` inputs (both enlarged to fill a block), and half their length.

    A block of neighbouring outputs is one matrix `[inputs, outputs]` with its first output and first input. Kaiser
    window of 64 zero crossings a side: 100 dB, pass band up to 0.9 of the lower Nyquist frequency.
    """
    block = 128
    down, up = down * -(-block // up), up * -(-block // up)
    cutoff = 0.95 * min(1.0, up / down)
    half, filters = math.ceil(64 / cutoff), []
    for first in range(0, up, block):
        centres = np.arange(first, min(first + block, up)) * (down / up)
        start = int(centres[0])
        distance = np.arange(start, int(centres[-1]) + 2 * half + 1)[:, None] - half - centres
        window = np.i0(10.06 * np.sqrt(np.maximum(1 - (distance / half) ** 2, 0))) / np.i0(10.06)
        kernel = np.where(np.abs(distance) < half, cutoff * np.sinc(cutoff * distance) * window, 0)
        filters.append((first, start, kernel.astype(np.float32)))
    return down, up, half, filters


def show(file: Path, heard: Heard, arguments: argparse.Namespace) -> str:
    """What is printed for one file."""
    if arguments.json:
        return json.dumps({"file": str(file), **asdict(heard)}, ensure_ascii=False)
    lines = [heard.text]
    if arguments.timestamps:
        lines = [f"[{part['start']:.2f} --> {part['end']:.2f}] {part['text']}" for part in heard.segments]
    prefix = f"{file}: " if len(arguments.files) > 1 else ""
    return "\n".join(prefix + line for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 if a file could not be read; usage errors exit with 2."""
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3, any rate")
    parser.add_argument("--language", help="code of the spoken language, e.g. de; detected if left out")
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument("--timestamps", action="store_true", help="predict and print times")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: let PyTorch decide")
    chosen = parser.parse_args(arguments)
    if missing := [str(file) for file in chosen.files if not file.is_file()]:
        parser.error(f"there is no file {', '.join(missing)}")
    if chosen.threads < 0:
        parser.error("--threads must be 0 or more")
    try:
        model = open_quietly(Path(__file__).resolve().parent, chosen.threads)
        language = model.check(chosen.language, chosen.task)
    except (OSError, RequestError) as error:
        parser.error(str(error))
    failed = False
    for file in chosen.files:
        try:
            audio = read_audio(file, model.sample_rate)
        except AudioError as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            failed = True
        else:
            [heard] = model.hear([audio], language, chosen.task, timestamps=chosen.timestamps)
            print(show(file, heard, chosen))
    return int(failed)


def open_quietly(directory: Path, threads: int) -> Model:
    """The model, with nothing but errors from transformers."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return Model(directory, threads=threads)


if __name__ == "__main__":
    sys.exit(main())
