"""Calibration clips as the inputs of a model's graphs: what the model itself hears and says.

The decoder is fed the tokens that the model says greedily, because those are what it will see in use. Nothing but
tokens and features is kept between calls; the encoder runs again for each round, so memory holds one clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.teacher_forcing import Forced, force

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact
    from pocket_opt.data.dataset import Dataset
    from pocket_opt.onnx_graphs.files import Array
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.base import Floats, Tokens

MAX_NEW_TOKENS = 64
"""Of a clip; a model that loops adds nothing after that."""


@dataclass(frozen=True)
class Heard:
    """A clip's first window as the graphs take it: features `[1, mels, frames]`, and its tokens."""

    features: Floats
    forced: Forced


@dataclass(frozen=True)
class Calibration:
    """The clips that a model was let hear."""

    artifact: Artifact
    heard: Sequence[Heard]

    @staticmethod
    def hear(artifact: Artifact, clips: Dataset, progress: Progress) -> Calibration:
        """Transcribe the clips with `artifact`; its graphs' inputs can be had of an ONNX model only."""
        runtime = open_runtime(artifact)
        heard = []
        window = round(runtime.window_s * runtime.sample_rate)
        for done, clip in enumerate(clips, start=1):
            audio = clip.samples(runtime.sample_rate)[:window]
            forced = force(runtime, audio, clip.language, MAX_NEW_TOKENS)
            heard.append(Heard(runtime.features([audio]), forced))
            progress(done, len(clips), "calibration clips")
        return Calibration(artifact, heard)

    def feeds(self, component: str) -> Callable[[], Iterator[dict[str, Array]]]:
        """The inputs of a graph for one clip after the other, as often as the result is called."""
        return self._decoder_feeds if component == "decoder" else self._encoder_feeds

    def _encoder_feeds(self) -> Iterator[dict[str, Array]]:
        port = self.artifact.components["encoder"].inputs[0]
        for one in self.heard:
            yield {port.name: one.features.astype(port.dtype, copy=False)}

    def _decoder_feeds(self) -> Iterator[dict[str, Array]]:
        encoder = open_session(self.artifact, "encoder")
        names = [port.name for port in encoder.get_outputs()]
        for one, inputs in zip(self.heard, self._encoder_feeds(), strict=True):
            encoded = dict(zip(names, encoder.run(None, inputs), strict=True))
            yield decoder_inputs(self.artifact, encoded, one.forced.tokens)


def decoder_inputs(artifact: Artifact, encoded: dict[str, Any], tokens: Tokens) -> dict[str, Array]:
    """What the decoder takes for `tokens` `[1, length]` from the start, given the encoder's outputs by name."""
    inputs: dict[str, Array] = {}
    for port in artifact.components["decoder"].inputs:
        if port.name in encoded:
            inputs[port.name] = encoded[port.name]
        elif port.name.startswith("past_"):
            _, heads, _, width = port.shape
            inputs[port.name] = np.zeros((1, int(heads), 0, int(width)), port.dtype)
        else:
            inputs[port.name] = tokens.astype(port.dtype, copy=False)
    return inputs
