"""The runner that every bundle carries, with errors as the rest of the package reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.models.whisper.runner.whisper import Whisper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket_opt.runtimes.base import Audio, DecodeOptions, Transcript


class StandaloneRunner(Whisper):
    """The stand-alone runner on the runtime that the model in a directory names."""

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`; UserError for a language or task that the model does not know."""
        try:
            return super().transcribe(audio, options)
        except RequestError as error:
            raise UserError(str(error), fix="choose another language or task, or another model") from None
