"""How near a variant's numbers are to those of the source model, before any word is chosen.

The variant and the source, each with its own front end, hear the same clips. Compared are the log-mel features, the
encoder's output and the logits. The logits are teacher-forced: both decoders are fed what the *source* says greedily,
so one different word does not make all that follows incomparable. A second pass feeds two clips as a batch, token by
token through the cache, and is compared with the same logits of the source: shapes at which caches and masks go wrong.
A model that is one graph from samples to text shows no numbers on the way; its tokens are compared (`token_parity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.data.planned import open_planned
from pocket_opt.evaluation import fidelity
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.token_parity import ONE_GRAPH, compare_tokens
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, planned, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import Audio, Floats, SpeechRuntime, Tokens

BATCH = 2
COMPARED = ("mel", "encoder", "logits", "batch")


@dataclass(frozen=True)
class ParityParams:
    """What to compare on.

    Attributes:
        data_path: directory of the data set.
        data_digest: its digest; enters the key in place of the path.
        clips: how many, spread evenly over the data set.
        max_new_tokens: most tokens of a clip that are compared; a row of logits is as wide as the vocabulary.
        threads: of the runtimes; 0 is their default.
    """

    data_path: str = neutral("", instead="data.evaluation.path")
    data_digest: str = planned("", instead="data.evaluation.path")
    clips: int = positive(8)
    max_new_tokens: int = positive(64)
    threads: int = neutral(0)


@dataclass(frozen=True)
class Heard:
    """What the source made of one clip.

    Attributes:
        features: `[1, mels, frames]`.
        hidden: the encoder's output `[1, positions, d_model]`.
        tokens: prompt and greedy tokens `[1, length]`.
        prompt: how many of them are the prompt.
        logits: `[1, length - prompt + 1, vocab]`, from the last prompt token on.
    """

    audio: Audio
    features: Floats
    hidden: Floats
    tokens: Tokens
    prompt: int
    logits: Floats


class Parity(Pass[ParityParams]):
    """Compares features, encoder output and teacher-forced logits with the source model."""

    version = 2
    Params = ParityParams
    kind = "measure"
    tools = ("executorch", "numpy", "onnxruntime", "openvino", "torch", "transformers")
    inputs = ("model", "source")
    limits = ("parity.mel_max_error",)

    def run(
        self, inputs: Inputs, params: ParityParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Open both models, run the clips through both and write the comparisons."""
        from pocket_opt.runtimes import open_runtime

        source, model = (open_runtime(inputs[name], threads=params.threads) for name in ("source", "model"))
        clips = open_planned(params.data_path, params.data_digest).limit(params.clips)
        if not model.stepwise:
            tokens = compare_tokens(source, model, clips, params.max_new_tokens, progress, why=ONE_GRAPH)
            return write_result(workdir, "parity", tokens, {"left_out": list(COMPARED), "reason": ONE_GRAPH})
        found = {name: fidelity.Comparison() for name in COMPARED}
        heard: list[Heard] = []
        for done, clip in enumerate(clips, start=1):
            audio = clip.samples(source.sample_rate)[: round(source.window_s * source.sample_rate)]
            heard.append(listen(source, audio, clip.language, params.max_new_tokens))
            compare_clip(model, heard[-1], found)
            if len(heard) == BATCH:
                compare_batch(model, heard, found["batch"])
                heard.clear()
            progress(done, len(clips), "clips")
        left_out = [name for name, comparison in found.items() if not comparison.rows]
        return write_result(workdir, "parity", parity_metrics(found, len(clips)), {"left_out": left_out})


def listen(source: SpeechRuntime, audio: Audio, language: str | None, max_new_tokens: int) -> Heard:
    """The source's features, encoder output, greedy tokens and logits of one clip."""
    from pocket_opt.runtimes.teacher_forcing import force

    forced = force(source, audio, language, max_new_tokens)
    features = source.features([audio])
    state = source.encode(features)
    hidden = source.encoder_hidden(state)
    logits, _ = source.decode(forced.tokens, state)
    return Heard(audio, features, hidden, forced.tokens, forced.prompt, logits[:, forced.prompt - 1 :])


def compare_clip(model: SpeechRuntime, heard: Heard, found: dict[str, fidelity.Comparison]) -> None:
    """Add one clip, decoded in one call; mel and encoder only where they have the source's shape."""
    features = model.features([heard.audio])
    if features.shape == heard.features.shape:
        found["mel"].add(heard.features, features)
    state = model.encode(features)
    hidden = model.encoder_hidden(state)
    if hidden.shape == heard.hidden.shape:
        found["encoder"].add(heard.hidden, hidden)
    logits, _ = model.decode(heard.tokens, state)
    found["logits"].add(heard.logits, logits[:, heard.prompt - 1 :])


def compare_batch(model: SpeechRuntime, heard: Sequence[Heard], found: fidelity.Comparison) -> None:
    """Add clips that are decoded as one batch, the prompt at once and then token by token."""
    import numpy as np

    prompt = heard[0].prompt
    length = min(one.tokens.shape[1] for one in heard)
    tokens = np.concatenate([one.tokens[:, :length] for one in heard])
    logits, state = model.decode(
        tokens[:, :prompt], model.encode(model.features([one.audio for one in heard]))
    )
    steps = [logits[:, -1:]]
    for place in range(prompt, length):
        logits, state = model.decode(tokens[:, place : place + 1], state)
        steps.append(logits[:, -1:])
    expected = np.concatenate([one.logits[:, : len(steps)] for one in heard])
    found.add(expected, np.concatenate(steps, axis=1))


def parity_metrics(found: dict[str, fidelity.Comparison], clips: int) -> dict[str, Metric]:
    """The metrics of the comparisons that hold something."""
    mel, encoder, logits, batch = (found[name] for name in ("mel", "encoder", "logits", "batch"))
    forced = "logits fed with the source's greedy tokens, from the last prompt token on"
    batched = f"{forced}; {BATCH} clips as a batch, token by token, against the source one clip at a time"
    metrics = {}
    if mel.rows:
        method = "largest absolute difference of log-mel features, each model's own front end"
        metrics["mel_max_error"] = Metric(mel.max_error, "", clips, method)
    if encoder.rows:
        method = "encoder output of variant and source on the same audio, all clips as one vector"
        metrics["encoder_cosine"] = Metric(encoder.cosine, "", clips, method)
        metrics["encoder_sqnr_db"] = Metric(encoder.sqnr_db, "dB", clips, method)
    for prefix, comparison, method in (("", logits, forced), ("batch_", batch, batched)):
        if comparison.rows:
            tokens = comparison.rows
            metrics[f"{prefix}logits_sqnr_db"] = Metric(comparison.sqnr_db, "dB", tokens, method)
            metrics[f"{prefix}top1_agreement"] = Metric(comparison.top1_agreement, "%", tokens, method)
    return metrics


PASS = Parity()
