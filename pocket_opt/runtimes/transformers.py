"""The reference: the source model in PyTorch through transformers, by the runner that bundles of level NONE carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.models.whisper.runner.transcript import DecodeOptions, RequestError, Segment, Transcript
from pocket_opt.models.whisper.runner.transformers_model import TransformersModel
from pocket_opt.runtimes.base import beyond_the_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import Audio


class TransformersRuntime(TransformersModel):
    """The stand-alone runner, with errors as the rest of the package reports them."""

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


def open_model(artifact: Artifact, *, threads: int = 0) -> TransformersRuntime:
    """Open the checkpoint and the processor at the root of `artifact`."""
    return TransformersRuntime(artifact.root, threads=threads)
