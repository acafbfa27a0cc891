"""A bundle opened for use: `LoadedModel.transcribe` gives text at once, to `await`, or segment by segment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.bundle.layout import Bundle, open_bundle
from pocket_opt.errors import PocketOptError, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pocket_opt.models.whisper.runner.transcript import Segment, Transcript, Word
    from pocket_opt.runtimes.base import SpeechRuntime

    Samples = NDArray[np.float32]


class Transcription:
    """A transcript to be: computed when it is asked for, and kept.

    `transcription.text` (or `tokens`, `segments`, `language`, `result`) computes and returns; `await transcription`
    computes in a thread and returns the whole `Transcript`; `for segment in transcription` gives the segments of each
    window of the audio as soon as that window is decoded.
    """

    def __init__(self, whole: Callable[[], Transcript], segments: Callable[[], Iterator[Segment]]) -> None:
        self._whole, self._stream = whole, segments
        self._result: Transcript | None = None
        self._lock = threading.Lock()

    @property
    def result(self) -> Transcript:
        """The whole transcript."""
        with self._lock:
            if self._result is None:
                self._result = self._whole()
            return self._result

    @property
    def text(self) -> str:
        """The words."""
        return self.result.text

    @property
    def tokens(self) -> tuple[int, ...]:
        """The generated ids, without prompt and end tokens."""
        return self.result.tokens

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Pieces of the text with start and end in seconds; of a short clip without timestamps one."""
        return self.result.segments

    @property
    def words(self) -> tuple[Word, ...]:
        """Words with start and end in seconds, where `word_timestamps` were asked for."""
        return self.result.words

    @property
    def language(self) -> str | None:
        """Code of the language that was given or detected; None for English-only models."""
        return self.result.language

    def __await__(self) -> Generator[object, None, Transcript]:
        return asyncio.to_thread(lambda: self.result).__await__()

    def __iter__(self) -> Iterator[Segment]:
        yield from self._stream() if self._result is None else self._result.segments

    def __str__(self) -> str:
        return self.text


class LoadedModel:
    """The model of a bundle. Its runtime is opened at the first transcription and kept.

    Args:
        path: the bundle's directory.
        threads: of the runtime; 0 leaves their number to it.

    Raises:
        UserError: `path` holds no bundle.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self.bundle: Bundle = open_bundle(Path(path))
        self._threads = threads
        self._opened: SpeechRuntime | None = None
        self._lock = threading.Lock()

    def transcribe(
        self,
        audio: str | Path | Samples,
        *,
        language: str | None = None,
        task: str = "transcribe",
        timestamps: bool = False,
        max_new_tokens: int | None = None,
        beams: int = 1,
        length_penalty: float = 1.0,
        fallback: bool = True,
        condition_on_previous: bool = False,
        word_timestamps: bool = False,
        sample_rate: int | None = None,
    ) -> Transcription:
        """The transcript of one recording; see `Transcription` for its three forms.

        Args:
            audio: a file (wav, flac, ogg, mp3; AAC where ffmpeg is installed), or mono samples `[samples]` in -1..1.
            language: code of the language spoken, e.g. "de"; None detects it.
            task: "transcribe", or "translate" to English.
            max_new_tokens: most tokens generated for a window.
            beams: sequences that the beam search follows, 1 (greedy) to 5.
            length_penalty: of the beam search; above 0 favours long texts.
            fallback: in audio longer than a window, decode what is improbable or repeats itself again at higher
                temperatures, and leave out what is most likely no speech.
            condition_on_previous: in audio longer than a window, tell each window what was said before it.
            word_timestamps: find the time of each word; the bundle must have been built with word_timestamps=true.
            sample_rate: Hz of `audio` where it is samples; None: what the model expects.

        Raises:
            UserError: the file is missing, or a number is out of range; when the text is asked for: it is no audio, or
                the model does not know the language or the task, or gives no times of words.
        """
        from pocket_opt.models.whisper.runner.transcript import DecodeOptions, Fallback, RequestError

        if isinstance(audio, str | Path) and not Path(audio).is_file():
            raise UserError(f"there is no file {audio}", where="transcribe", fix="correct the path")
        try:
            options = DecodeOptions(
                language,
                task,
                timestamps,
                max_new_tokens,
                beams,
                length_penalty,
                Fallback() if fallback else None,
                condition_on_previous,
                word_timestamps,
            )
        except RequestError as error:
            raise UserError(str(error), where="transcribe", fix="change the value") from None

        def whole() -> Transcript:
            return self.runtime.transcribe([self._samples(audio, sample_rate)], options)[0]

        def segments() -> Iterator[Segment]:
            return self.runtime.stream(self._samples(audio, sample_rate), options)

        return Transcription(whole, segments)

    @property
    def runtime(self) -> SpeechRuntime:
        """The opened runtime, with its steps one by one."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> SpeechRuntime:
        from pocket_opt.runtimes import open_runtime

        try:
            return open_runtime(self.bundle.artifact, threads=self._threads)
        except PocketOptError:
            raise
        except Exception as error:
            raise PocketOptError(
                f"the bundle cannot be loaded: {' '.join(str(error).split())[:300]}",
                where=str(self.bundle.path),
                fix="see which file is damaged: pocket-opt validate DIR",
            ) from error

    def _samples(self, audio: str | Path | Samples, sample_rate: int | None) -> Samples:
        import numpy as np

        from pocket_opt.data.audio import read_audio
        from pocket_opt.models.whisper.runner.audio import resample

        if isinstance(audio, str | Path):
            return read_audio(Path(audio), sample_rate=self.runtime.sample_rate)
        samples = np.asarray(audio, np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            what = f"of shape {samples.shape}" if samples.ndim != 1 else "with values that are not finite"
            raise UserError(
                f"the audio is an array {what}",
                where="transcribe",
                allowed="mono samples [samples] in -1..1",
                fix="mix it down, e.g. audio.mean(axis=1)",
            )
        return resample(samples, sample_rate or self.runtime.sample_rate, self.runtime.sample_rate)
