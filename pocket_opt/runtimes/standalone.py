"""The runner that every bundle carries, with errors as the rest of the package reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.models.whisper.runner.whisper import Whisper
from pocket_opt.runtimes.base import beyond_the_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pocket_opt.runtimes.base import Audio, DecodeOptions, Segment, Transcript


class StandaloneRunner(Whisper):
    """The stand-alone runner on the runtime that the model in a directory names."""

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`; UserError for a language or task that the model does not know."""
        try:
            return super().transcribe(audio, options)
        except RequestError as error:
            raise beyond_the_model(error) from None

    def stream(self, samples: Audio, options: DecodeOptions | None = None) -> Iterator[Segment]:
        """The segments of a clip `[samples]`; UserError as above."""
        try:
            yield from super().stream(samples, options)
        except RequestError as error:
            raise beyond_the_model(error) from None
