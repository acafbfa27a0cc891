"""What quantized graphs are judged on: calibration clips and noisy copies of them, teacher-forced and freely decoded.

Clips that a model was trained on are easy; a variant may be worse and still get every one right. Noise makes them
harder and gives more words to count. Errors of single layers are the mean Kullback-Leibler divergence of the next-token
distribution, in nats: far finer than a word that changes or does not. A whole variant is decoded freely, and counted is
how many words differ from those that the exact model writes: no WER can change by more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Clip
from pocket_opt.evaluation.scoring import ErrorCounts, load_normalizer, word_counts
from pocket_opt.models.whisper.runner.static_backend import TEXT, StaticBackend, StaticState
from pocket_opt.onnx_graphs.checks import open_session
from pocket_opt.runtimes import open_runtime
from pocket_opt.runtimes.base import DecodeOptions
from pocket_opt.runtimes.calibration import MAX_NEW_TOKENS, decoder_inputs
from pocket_opt.runtimes.teacher_forcing import force
from pocket_opt.search.layers import is_static

if TYPE_CHECKING:
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.base import Audio, Floats, Tokens

    Decoder = Callable[[dict[str, Any], Tokens], Floats]
    """What the encoder gave and tokens `[1, length]` from the start, to logits `[1, length, vocab]`."""

CACHE_BYTES = 1_000_000_000
"""Encoder outputs and logits of the exact model that are kept; with more, fewer clips are teacher-forced."""


@dataclass(frozen=True)
class Utterance:
    """Samples of one window, the language it is in, and what is said."""

    audio: Audio
    language: str | None
    text: str


def utterances(
    clips: Sequence[Clip], sample_rate: int, window_s: float, noise_db: Sequence[float]
) -> list[Utterance]:
    """The clips, and for each signal-to-noise ratio in dB a copy of them with white noise, always the same."""
    found = []
    for level in (None, *noise_db):
        random = np.random.default_rng(0)
        for clip in clips:
            audio = clip.samples(sample_rate)[: round(window_s * sample_rate)]
            if level is not None:
                noise = random.standard_normal(len(audio)).astype(np.float32)
                loudness = np.linalg.norm(audio) / np.linalg.norm(noise) * 10 ** (-level / 20)
                audio = audio + np.float32(loudness) * noise
            found.append(Utterance(audio, clip.language, clip.text))
    return found


@dataclass(frozen=True)
class Exact:
    """What the exact model makes of an utterance: features, encoder outputs by name, tokens, log-probabilities."""

    features: Floats
    encoded: dict[str, Any]
    tokens: Tokens
    prompt: int
    log_probs: Floats


class Listener:
    """Judges variants of `artifact`, the exact model."""

    def __init__(
        self, artifact: Artifact, heard: Sequence[Utterance], forced: int, progress: Progress
    ) -> None:
        self._artifact, self._heard = artifact, heard
        self._decoder = _open_decoder(artifact)
        runtime = open_runtime(artifact)
        self._exact = self._listen(runtime, heard[:: max(1, len(heard) // forced)], progress)
        self._texts = self._decode(runtime)

    def divergence(self, variant: Artifact, components: Collection[str]) -> float:
        """Mean KL divergence, in nats a token, of a variant in which only the graphs `components` differ."""
        encoder = open_session(variant, "encoder") if "encoder" in components else None
        decoder = _open_decoder(variant) if "decoder" in components else self._decoder
        total = count = 0.0
        for exact in self._exact:
            encoded = _outputs(encoder, self._features(exact.features)) if encoder else exact.encoded
            logits = decoder(encoded, exact.tokens)
            found = _log_softmax(logits[0, exact.prompt - 1 :])
            total += float(np.sum(np.exp(exact.log_probs) * (exact.log_probs - found)))
            count += len(found)
        return max(total / count, 0.0)

    def changed(self, variant: Artifact) -> tuple[ErrorCounts, float]:
        """Words that differ from the exact model's, and of how many; what that does to the WER, in points."""
        texts = self._decode(open_runtime(variant))
        pairs = zip(self._texts, texts, strict=True)
        moved = sum((word_counts(old, new) for old, new in pairs if old), ErrorCounts())
        return moved, self.wer(texts) - self.wer(self._texts)

    def wer(self, texts: Sequence[str] | None = None) -> float:
        """The WER of texts (default: of the exact model) over all utterances, in %."""
        counts = ErrorCounts()
        for one, text in zip(self._heard, self._texts if texts is None else texts, strict=True):
            expected = load_normalizer(one.language)(one.text)
            counts += word_counts(expected, text) if expected else ErrorCounts()
        return _rate(counts)

    def _features(self, features: Floats) -> dict[str, Any]:
        port = self._artifact.components["encoder"].inputs[0]
        return {port.name: features.astype(port.dtype, copy=False)}

    def _listen(self, runtime: Any, heard: Sequence[Utterance], progress: Progress) -> list[Exact]:
        encoder = open_session(self._artifact, "encoder")
        found: list[Exact] = []
        kept = 0
        for one in heard:
            forced = force(runtime, one.audio, one.language, MAX_NEW_TOKENS)
            features = runtime.features([one.audio])
            encoded = _outputs(encoder, self._features(features))
            logits = self._decoder(encoded, forced.tokens)
            log_probs = _log_softmax(logits[0, forced.prompt - 1 :])
            found.append(Exact(features, encoded, forced.tokens, forced.prompt, log_probs))
            kept += log_probs.nbytes + sum(array.nbytes for array in encoded.values())
            progress(len(found), len(heard), "clips heard")
            if kept > CACHE_BYTES:
                break
        return found

    def _decode(self, runtime: Any, batch: int = 8) -> list[str]:
        """Normalized texts of all utterances, in their order."""
        texts: dict[int, str] = {}
        languages = dict.fromkeys(one.language for one in self._heard)
        for language in languages:
            places = [place for place, one in enumerate(self._heard) if one.language == language]
            normalize, options = load_normalizer(language), DecodeOptions(language=language)
            for first in range(0, len(places), batch):
                rows = places[first : first + batch]
                said = runtime.transcribe([self._heard[row].audio for row in rows], options)
                texts.update((row, normalize(one.text)) for row, one in zip(rows, said, strict=True))
        return [texts[place] for place in range(len(self._heard))]


def _rate(counts: ErrorCounts) -> float:
    return 100 * counts.errors / max(counts.length, 1)


def _outputs(session: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _open_decoder(artifact: Artifact) -> Decoder:
    """What feeds the decoder of `artifact`, which may have static shapes and take a token at a time."""
    if is_static(artifact):
        sessions = {name: open_session(artifact, name) for name in TEXT if name in artifact.components}
        backend = StaticBackend(sessions)
        return lambda encoded, tokens: backend.decode(tokens, StaticState([encoded], None))[0]
    session = open_session(artifact, "decoder")

    def call(encoded: dict[str, Any], tokens: Tokens) -> Floats:
        inputs = decoder_inputs(artifact, encoded, tokens)
        logits: Floats = session.run(["logits"], inputs)[0].astype(np.float32, copy=False)
        return logits

    return call


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
