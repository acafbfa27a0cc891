"""ONNX Runtime on the CPU, through the runner that every bundle carries: what is measured is what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.run import RequestError, Whisper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import Audio, DecodeOptions, Transcript


class OnnxRuntime(Whisper):
    """The stand-alone runner, with errors as the rest of the package reports them."""

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions | None = None) -> list[Transcript]:
        """Transcripts of the clips `[samples]`; UserError for a language or task that the model does not know."""
        try:
            return super().transcribe(audio, options)
        except RequestError as error:
            raise UserError(str(error), fix="choose another language or task, or another model") from None


def open_model(artifact: Artifact, *, threads: int = 0) -> OnnxRuntime:
    """Open the graphs `mel`, `encoder` and `decoder` of `artifact`."""
    return OnnxRuntime(artifact.root, threads=threads)
