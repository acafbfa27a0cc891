"""The reference: the source model in PyTorch, decoded by `generate()` of transformers. Level NONE is this.

It is the runner that the bundles of level NONE carry, and the steps one by one: what is measured is what ships.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import EncoderDecoderCache

from pocket_opt.errors import UserError
from pocket_opt.models.whisper.run import DecodeOptions, Segment, Transcript, Vocabulary
from pocket_opt.models.whisper.run_transformers import Model, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import Audio, Floats, Tokens

State = tuple[torch.Tensor, EncoderDecoderCache | None]
"""The encoder's output `[batch, positions, d_model]`, and the cache, which `decode` extends in place."""


class TransformersRuntime(Model):
    """The stand-alone runner, with errors and transcripts as the rest of the package has them.

    Attributes: as `pocket_opt.runtimes.base.SpeechRuntime`.
    """

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        super().__init__(directory, threads=threads)
        generation = (directory / "generation_config.json").read_text(encoding="utf-8")
        self.vocabulary = Vocabulary(directory / "tokenizer.json", json.loads(generation))
        self.load_seconds = time.perf_counter() - began

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`."""
        with torch.inference_mode():
            return self._model.get_encoder()(torch.from_numpy(features)).last_hidden_state, None

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state[0].numpy())

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]`: logits `[batch, length, vocab]`, and the state, of which the cache grew."""
        hidden, cache = state
        fed = torch.from_numpy(tokens)
        with torch.inference_mode():
            output = self._model(
                encoder_outputs=(hidden,), decoder_input_ids=fed, past_key_values=cache, use_cache=True
            )
        return output.logits.numpy(), (hidden, output.past_key_values)

    def prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        language = options.language or next(iter(self.vocabulary.languages), "en")
        return self.vocabulary.prompt(options, self.vocabulary.language(language))

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions) -> list[Transcript]:
        """Transcripts of the clips `[samples]`, one batch; audio longer than the window in consecutive windows.

        Raises:
            UserError: the model does not know the language or the task.
        """
        try:
            language = self.check(options.language, options.task)
        except RequestError as error:
            raise UserError(str(error), fix="choose another language or task, or another model") from None
        limit = options.max_new_tokens
        if limit is not None:
            limit = min(limit, self._model.config.max_target_positions - len(self.prompt(options)))
        heard = self.hear(audio, language, options.task, timestamps=options.timestamps, limit=limit)
        return [
            Transcript(
                clip.text, tuple(clip.tokens), tuple(Segment(**part) for part in clip.segments), clip.language
            )
            for clip in heard
        ]


def open_model(artifact: Artifact, *, threads: int = 0) -> TransformersRuntime:
    """Open the checkpoint and the processor at the root of `artifact`."""
    return TransformersRuntime(artifact.root, threads=threads)
