"""Calibration clips as the inputs of a model's graphs: what the model itself hears and says.

The decoder is fed the tokens that the model says greedily, because those are what it will see in use. Nothing but
tokens and features is kept between calls; the encoder runs again for each round, so memory holds one clip where the
features are kept on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocket_opt.data.calibration_clips import require_clips
from pocket_opt.data.planned import open_planned
from pocket_opt.errors import UserError
from pocket_opt.models.whisper.runner.static_backend import TEXT, StaticBackend
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.teacher_forcing import Forced, force

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact
    from pocket_opt.data.dataset import Dataset
    from pocket_opt.onnx_graphs.files import Array
    from pocket_opt.passes.base import Calibrated, Progress
    from pocket_opt.runtimes.base import Floats, Tokens

MAX_NEW_TOKENS = 64
"""Of a clip; a model that loops adds nothing after that."""


@dataclass(frozen=True)
class Heard:
    """A clip's first window as the graphs take it: features `[1, mels, frames]`, and its tokens."""

    features: Floats
    forced: Forced


def heard_of(artifact: Artifact, params: Calibrated, clips: int, progress: Progress) -> Calibration:
    """What `artifact` says of so many clips of the planned data set, spread evenly over it."""
    planned = open_planned(params.calibration_path, params.calibration_digest)
    return Calibration.hear(artifact, planned.limit(clips), progress)


@dataclass(frozen=True)
class Calibration:
    """The clips that a model was let hear."""

    artifact: Artifact
    heard: Sequence[Heard]

    @staticmethod
    def hear(
        artifact: Artifact, clips: Dataset, progress: Progress, *, keep: Path | None = None
    ) -> Calibration:
        """Transcribe the clips with `artifact`; its graphs' inputs can be had of an ONNX model only.

        Features are kept in the directory `keep`, else in memory; see `kept_mb`.

        Raises:
            UserError: a clip was sampled too slowly to hold speech.
        """
        require_clips(clips, 1)
        runtime = open_runtime(artifact)
        heard = []
        window = round(runtime.window_s * runtime.sample_rate)
        for done, clip in enumerate(clips, start=1):
            audio = clip.samples(runtime.sample_rate)[:window]
            forced = force(runtime, audio, clip.language, MAX_NEW_TOKENS)
            features = runtime.features([audio])
            if keep is not None:
                features = _kept(features, keep / f"{done}.npy")
            heard.append(Heard(features, forced))
            progress(done, len(clips), "calibration clips")
        return Calibration(artifact, heard)

    def say_again(self, sessions: Mapping[str, Any], progress: Progress) -> None:
        """Let graphs of static shapes, opened as `sessions`, hear the clips and say their tokens.

        The caches fill as they do in use: the prompt at once, then token by token.
        """
        backend = StaticBackend(sessions)
        for done, one in enumerate(self.heard, start=1):
            for _ in _said_by(backend, one):
                pass
            progress(done, len(self.heard), "clips observed")

    def feeds(self, component: str) -> Callable[[], Iterator[dict[str, Array]]]:
        """The inputs of a graph for one clip after the other, as often as the result is called.

        Caches of static graphs are filled in place: what is given is to be used before the next is asked for.
        """
        if component == "encoder":
            return self._encoder_feeds
        if self.artifact.metadata.get("decoder") == "static":
            return partial(self._static_feeds, component)
        return self._decoder_feeds

    def _static_feeds(self, component: str) -> Iterator[dict[str, Array]]:
        """Of each call of `prefill` or `decoder` that `say_again` makes."""
        names = ("encoder", *(name for name in TEXT if name in self.artifact.components))
        sessions = {name: open_session(self.artifact, name) for name in names}
        noted = _Noted(sessions[component])
        backend = StaticBackend({**sessions, component: noted})
        for one in self.heard:
            for _ in _said_by(backend, one):
                yield from noted.take()

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


class _Noted:
    """A session that keeps what it is fed until that is taken."""

    def __init__(self, session: Any) -> None:
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self._run = session.run
        self._fed: list[dict[str, Array]] = []

    def run(self, names: Sequence[str], inputs: dict[str, Array]) -> list[Array]:
        self._fed.append(inputs)
        found: list[Array] = self._run(names, inputs)
        return found

    def take(self) -> list[dict[str, Array]]:
        fed, self._fed = self._fed, []
        return fed


def _said_by(backend: StaticBackend, one: Heard) -> Iterator[None]:
    """Let graphs hear a clip and say its tokens; comes back after each step."""
    tokens, prompt = one.forced.tokens, one.forced.prompt
    _, state = backend.decode(tokens[:, :prompt], backend.encode(one.features))
    yield
    for place in range(prompt, tokens.shape[1]):
        _, state = backend.decode(tokens[:, place : place + 1], state)
        yield


def kept_mb(artifact: Artifact, clips: int) -> float:
    """MB (10^6 bytes) at most that so many clips take while they are kept: features of one window, and tokens."""
    features = artifact.components["encoder"].inputs[0].shape[1:]
    numbers = math.prod(int(size) for size in features) + 2 * int(
        artifact.metadata["dims"]["target_positions"]
    )
    return clips * 4 * numbers / 1e6


def require_room(artifact: Artifact, clips: int, most_mb: float) -> None:
    """Raise UserError where so many clips take more than `most_mb` MB while they are kept."""
    if (needed := kept_mb(artifact, clips)) > most_mb:
        raise UserError(
            f"{clips} calibration clips take {needed:.0f} MB on disk while they are used",
            where="params.cache_mb",
            allowed=f"{most_mb} MB",
            fix="lower params.calibration_clips, or raise params.cache_mb",
        )


def _kept(array: Floats, path: Path) -> Floats:
    """`array`, from now on in the file `path`."""
    np.save(path, array)
    found: Floats = np.load(path, mmap_mode="r")
    return found


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
