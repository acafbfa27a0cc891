"""Transcribe audio files with the Whisper model that lies beside this file (ONNX Runtime, CPU).

    python run.py FILE... [--language de] [--task translate] [--timestamps] [--json] [--threads N]

Needs numpy, onnxruntime, tokenizers and soundfile, and may be moved together with its directory. Decoding is greedy
and follows `generate()` of transformers token by token. Audio longer than the model's window is cut into consecutive
windows that are decoded independently: nothing is lost, but a word on a cut may be heard as two.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

# onnxruntime, tokenizers and soundfile are imported where they are used: --help and usage errors need none of them.

Floats = np.ndarray[Any, np.dtype[np.float32]]
Tokens = np.ndarray[Any, np.dtype[np.int64]]
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
RATES = (1_000, 1_000_000)  # Hz that are taken for real
TASKS = ("transcribe", "translate")


class AudioError(ValueError):
    """A file cannot be read as audio."""


class RequestError(ValueError):
    """What was asked for is beyond the model: a language, a task, or a directory that holds none."""


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        language: code of the spoken language ("de" or "<|de|>"); None: detect it for each clip.
        task: "transcribe", or "translate" (to English).
        timestamps: predict the times of segments.
        max_new_tokens: most tokens to generate a window; None: what the model's generation configuration says.
    """

    language: str | None = None
    task: str = "transcribe"
    timestamps: bool = False
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of speech: `start` and `end` in seconds from the start of the clip, and its text."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What was heard in one clip.

    Attributes:
        text: the words, without special tokens.
        tokens: generated ids as transformers' generate() returns them: no prompt, no end token, no padding.
        segments: timed pieces of the text; without timestamps, one for each window.
        language: code of the language given or detected (in the first window); None for English-only models.
        no_speech_prob: probability of the no-speech token at the start of the first window.
        avg_logprob: mean log probability of the generated tokens, end tokens included.
    """

    text: str
    tokens: tuple[int, ...]
    segments: tuple[Segment, ...]
    language: str | None = None
    no_speech_prob: float | None = None
    avg_logprob: float | None = None


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


class Vocabulary:
    """Special ids and text of one model, read from its generation configuration and tokenizer.

    Attributes:
        start, end, pad: ids that open a transcript, end it, and fill rows that ended before others.
        languages: code -> id, by id; empty for an English-only model.
        timestamp_begin: id of <|0.00|>; every id from there on is a time.
    """

    def __init__(self, tokenizer: Path, generation: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self.start, self.end = int(generation["decoder_start_token_id"]), int(generation["eos_token_id"])
        self.pad = int(generation.get("pad_token_id", self.end))
        named = self._tokenizer.token_to_id("<|notimestamps|>")
        self.no_timestamps: int = generation.get("no_timestamps_token_id", named)
        self.no_speech = self.no_timestamps - 1  # by position: its name is <|nospeech|> or <|nocaptions|>
        self.timestamp_begin = self.no_timestamps + 1
        languages = generation.get("lang_to_id", {}) if generation.get("is_multilingual", True) else {}
        ordered = sorted(languages.items(), key=itemgetter(1))
        self.languages: dict[str, int] = {token.strip("<|>"): index for token, index in ordered}
        self._tasks: dict[str, int] = generation.get("task_to_id", {})

    def language(self, name: str) -> str:
        """The code that `name` ("de", "<|de|>") stands for; RequestError if the model does not know it."""
        code, known = name.lower().strip("<|>"), sorted(self.languages) or ["en"]
        if code not in known:
            raise RequestError(f"language {name!r}: this model knows {', '.join(known)}")
        return code

    def prompt(self, options: DecodeOptions, language: str | None) -> list[int]:
        """The forced first tokens: start, language, task, and that there are no timestamps."""
        known = TASKS if self.languages else TASKS[:1]
        if options.task not in known:
            raise RequestError(f"task {options.task!r}: this model knows {', '.join(known)}")
        spoken = [self.languages[language], self._tasks[options.task]] if self.languages and language else []
        return [self.start, *spoken, *([] if options.timestamps else [self.no_timestamps])]

    def text(self, tokens: Iterable[int]) -> str:
        """The words of `tokens`, without times and special tokens."""
        words = [token for token in tokens if token < self.timestamp_begin]
        return str(self._tokenizer.decode(words, skip_special_tokens=True)).strip()

    def segment(self, run: list[int], begin: float, end: float, seconds: float) -> list[Segment]:
        """What a run of tokens says between `begin` and `end`, times counting `seconds`; empty without words."""
        first = self.timestamp_begin
        times = [begin + (token - first) * seconds for token in run if token >= first]
        opens = min(times.pop(0) if times and run[0] >= first else begin, end)
        closes = max(opens, min([*times[:1], end]))
        return [Segment(round(opens, 3), round(closes, 3), text)] if (text := self.text(run)) else []


class Rules:
    """Which tokens may come next: the logits processors of transformers' generate() for Whisper, in its order."""

    def __init__(self, generation: Mapping[str, Any], vocabulary: Vocabulary, size: int) -> None:
        never, not_first = (generation.get(key) or () for key in ("suppress_tokens", "begin_suppress_tokens"))
        self._never = [token for token in never if 0 <= token < size]
        self._not_first = [token for token in not_first if 0 <= token < size]
        self._latest_first = generation.get("max_initial_timestamp_index")
        self._vocabulary = vocabulary

    def apply(self, scores: Floats, generated: Tokens, *, timestamps: bool) -> None:
        """Set forbidden entries of `scores` `[batch, vocab]` to -inf, given what rows `[batch, n]` have so far."""
        scores[:, self._never if generated.shape[1] else self._never + self._not_first] = -np.inf
        if timestamps:
            for row, sequence in zip(scores, generated.tolist(), strict=True):
                self._apply_timestamps(row, sequence)

    def _apply_timestamps(self, row: Floats, sequence: list[int]) -> None:
        begin = self._vocabulary.timestamp_begin
        row[self._vocabulary.no_timestamps] = -np.inf
        after_time = bool(sequence) and sequence[-1] >= begin
        after_pair = after_time and (len(sequence) == 1 or sequence[-2] >= begin)
        if after_pair:  # text has to follow
            row[begin:] = -np.inf
        elif after_time:  # the second of the pair has to follow, or the end
            row[: self._vocabulary.end] = -np.inf
        times = [token for token in sequence if token >= begin]
        if times:  # never back; the same time again only as the second of a pair
            row[begin : times[-1] + (not after_time or after_pair)] = -np.inf
        if not sequence:
            row[:begin] = -np.inf
            if self._latest_first is not None:
                row[begin + self._latest_first + 1 :] = -np.inf
        if log_sum_exp(row[begin:]) > row[:begin].max():  # all times together outweigh every single word
            row[:begin] = -np.inf


@dataclass(frozen=True)
class State:
    """What the decoder remembers. Never changed: one state can be continued in several ways.

    `encoded` and `past` hold ONNX Runtime values by name; `past` is empty for a decoder without cache, which reads
    `tokens` `[batch, length]`, all that was fed so far, again at each step.
    """

    encoded: Mapping[str, Any]
    past: Mapping[str, Any]
    tokens: Tokens


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
        table = _read_table(directory)
        files = {Path(name).name: name for part in table["components"].values() for name in part["files"]}
        dims, settings = table["metadata"]["dims"], table["metadata"].get("session", {})
        self.sample_rate, self.window_s = int(dims["sample_rate"]), float(dims["window_s"])
        self._longest, self._time_s = int(dims["target_positions"]), self.window_s / dims["source_positions"]
        generation = (directory / files["generation_config.json"]).read_text(encoding="utf-8")
        self._generation = json.loads(generation)
        self.vocabulary = Vocabulary(directory / files["tokenizer.json"], self._generation)
        self._rules = Rules(self._generation, self.vocabulary, int(dims["vocab"]))
        self._mel, self._encoder, self._decoder = (
            _open_session(directory / table["components"][name]["files"][0], settings, threads)
            for name in ("mel", "encoder", "decoder")
        )
        self._ports = {port.name: port for port in self._decoder.get_inputs()}
        self.load_seconds = time.perf_counter() - began

    def features(self, audio: Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of clips `[samples]`, each padded with silence or cut to one window."""
        longest = min(max(map(len, audio)), round(self.window_s * self.sample_rate))
        batch = np.zeros((len(audio), max(longest, 1)), np.float32)
        for row, clip in zip(batch, audio, strict=True):
            row[: len(clip)] = clip[:longest]
        result: Floats = self._mel.run(None, {self._mel.get_inputs()[0].name: batch})[0]
        return result

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        port = self._encoder.get_inputs()[0]
        encoded = _run(self._encoder, {port.name: _value(features.astype(DTYPES[port.type], copy=False))})
        past = {
            name: _value(np.zeros((len(features), port.shape[1], 0, port.shape[3]), DTYPES[port.type]))
            for name, port in self._ports.items()
            if name.startswith("past_")
        }
        return State(encoded, past, np.zeros((len(features), 0), np.int64))

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state.encoded["encoder_hidden"].numpy(), np.float32)

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        fed = np.concatenate([state.tokens, tokens], axis=1)
        inputs = {name: value for name, value in state.encoded.items() if name in self._ports}
        inputs |= {**state.past, "tokens": _value(tokens if state.past else fed)}
        outputs = _run(self._decoder, inputs)
        logits = outputs.pop("logits").numpy().astype(np.float32, copy=False)[:, -tokens.shape[1] :]
        past = {name.replace("present_", "past_"): value for name, value in outputs.items()}
        return logits, State(state.encoded, past, fed)

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        language = options.language or next(iter(self.vocabulary.languages), "en")
        return self.vocabulary.prompt(options, self.vocabulary.language(language))

    def transcribe(self, audio: Sequence[Floats], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, decoded as one batch; RequestError for an unknown language."""
        options = options or DecodeOptions()
        self.prompt(options)
        given = options.language if self.vocabulary.languages else None
        language = self.vocabulary.language(given) if given else None
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
            found = self._greedy([clips[row] for row in rows], state, prompts[rows], limit, options)
            for row, tokens in zip(rows, found, strict=True):
                start = at + float(seek[row]) * self.window_s / frames
                end = min(at + self.window_s, clips[row].seconds)
                runs, times = split_runs(tokens, self.vocabulary.timestamp_begin)
                for run in runs:
                    clips[row].tokens += run
                    clips[row].segments += self.vocabulary.segment(run, start, end, self._time_s)
                seek[row] += round(times * self._time_s * frames / self.window_s) or frames

    def _detect_languages(self, clips: list[_Heard], state: State) -> None:
        """Give each clip its most probable language."""
        codes, ids = list(self.vocabulary.languages), list(self.vocabulary.languages.values())
        logits, _ = self.decode(np.full((len(clips), 1), self.vocabulary.start, np.int64), state)
        for clip, best in zip(clips, logits[:, -1, ids].argmax(-1), strict=True):
            clip.language = codes[best]

    def _greedy(
        self, clips: list[_Heard], state: State, prompts: Tokens, limit: int, options: DecodeOptions
    ) -> list[list[int]]:
        """The most probable tokens of each row after its prompt, without the end token; with it at most `limit`."""
        logits, state = self.decode(prompts, state)
        silence = np.exp(logits[:, 0, self.vocabulary.no_speech] - log_sum_exp(logits[:, 0]))
        for clip, probability in zip(clips, silence, strict=True):
            clip.no_speech = float(probability) if clip.no_speech is None else clip.no_speech
        generated = np.zeros((len(prompts), 0), np.int64)
        running = np.ones(len(prompts), np.bool_)
        while running.any() and prompts.shape[1] + generated.shape[1] < limit:
            if generated.shape[1]:
                logits, state = self.decode(generated[:, -1:], state)
            scores = logits[:, -1]
            self._rules.apply(scores, generated, timestamps=options.timestamps)
            gained = scores.max(-1) - log_sum_exp(scores)
            for row in np.flatnonzero(running):
                clips[row].logprob += float(gained[row])
                clips[row].steps += 1
            chosen = np.where(running, scores.argmax(-1), self.vocabulary.pad)
            generated = np.concatenate([generated, chosen[:, None]], axis=1)
            running &= chosen != self.vocabulary.end
        return [list(itertools.takewhile(self.vocabulary.end.__ne__, row)) for row in generated.tolist()]


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


def log_sum_exp(scores: Floats) -> Any:
    """log(sum(exp(scores))) over the last axis; -inf where every score is."""
    peak = np.maximum(scores.max(-1, keepdims=True), np.finfo(np.float32).min)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(scores - peak).sum(-1)) + peak[..., 0]


def _shifted(features: Floats, frames: int) -> Floats:
    """`features` `[mels, frames]` from a frame on, filled up with zeros as transformers does."""
    return np.pad(features[:, frames:], ((0, 0), (0, frames)))


def _value(array: Floats | Tokens) -> Any:
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _run(session: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs of a session by name; nothing is copied on the way in or out."""
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run_with_ort_values(names, dict(inputs)), strict=True))


def _open_session(file: Path, settings: Mapping[str, Any], threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    level = str(settings.get("graph_optimization", "all")).upper()
    level = "ORT_DISABLE_ALL" if level == "DISABLED" else f"ORT_ENABLE_{level}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for key, value in settings.get("entries", {}).items():
        options.add_session_config_entry(key, str(value))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _read_table(directory: Path) -> dict[str, Any]:
    """Components and metadata of the model in `directory`."""
    for name in ("manifest.json", "artifact.json"):
        if (directory / name).is_file():
            table: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
            if lacking := {"mel", "encoder", "decoder"} - set(table["components"]):
                raise RequestError(f"{directory / name}: lists no {', '.join(sorted(lacking))} to run")
            return table
    raise RequestError(f"{directory}: neither manifest.json nor artifact.json is there")


def _show(file: Path, heard: Transcript, arguments: argparse.Namespace) -> str:
    if arguments.json:
        return json.dumps({"file": str(file), **asdict(heard)}, ensure_ascii=False)
    lines = [heard.text]
    if arguments.timestamps:
        lines = [f"[{part.start:.2f} --> {part.end:.2f}] {part.text}" for part in heard.segments]
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
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="0: let ONNX Runtime decide")
    chosen = parser.parse_args(arguments)
    if missing := [str(file) for file in chosen.files if not file.is_file()]:
        parser.error(f"there is no file {', '.join(missing)}")
    if chosen.threads < 0:
        parser.error("--threads must be 0 or more")
    options = DecodeOptions(chosen.language, chosen.task, chosen.timestamps)
    try:
        model = Whisper(Path(__file__).resolve().parent, threads=chosen.threads)
        model.prompt(options)
    except RequestError as error:
        parser.error(str(error))
    failed = False
    for file in chosen.files:
        try:
            [heard] = model.transcribe([read_audio(file, model.sample_rate)], options)
        except AudioError as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            failed = True
        else:
            print(_show(file, heard, chosen))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
