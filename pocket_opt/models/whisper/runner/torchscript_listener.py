"""A Whisper model whose TorchScript program decodes a window at one go, run by PyTorch's lite interpreter.

The program gives features and tokens. What it cannot know is done here: the words of the tokens, and where in longer
audio to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .all_in_one import COMPONENT, AllInOne, Window
from .audio import Floats
from .long_form import Clip
from .search import Found
from .torchscript_backend import method, open_program
from .transcript import DecodeOptions, RequestError
from .whisper import Whisper


class Listener(AllInOne):
    """As `AllInOne`; the program has the methods `forward` (samples to features), `listen` and `language`."""

    def _open(self, directory: Path, table: Mapping[str, Any], threads: int) -> None:
        program = open_program(directory / table["components"][COMPONENT]["files"][0], threads)
        self._mel, self._listen, self._language = (
            method(program, name) for name in ("forward", "listen", "language")
        )
        self._searches = False

    def check(self, options: DecodeOptions) -> None:
        """RequestError as for every model, and for a search, of which this program has none."""
        if options.beams > 1:
            raise RequestError(f"beams {options.beams}: this program decodes greedily, so 1 is all it knows")
        super().check(options)

    def _front_end(self, batch: Floats) -> Floats:
        """Log-mel of samples `[batch, samples]`, clip by clip."""
        import torch

        fitted = np.zeros((len(batch), round(self.window_s * self.sample_rate)), np.float32)
        fitted[:, : batch.shape[1]] = batch
        return np.concatenate([self._mel([torch.from_numpy(row[None])])[0].numpy() for row in fitted])

    def _clips(self, audio: Sequence[Floats], options: DecodeOptions) -> list[Clip]:
        """All clips with their features."""
        return [
            Window(clip.features, clip.seconds, clip.language)
            for clip in Whisper._clips(self, audio, options)
        ]

    def hear(self, audio: Sequence[Floats], options: DecodeOptions, *, new_tokens: int) -> list[str]:
        """The texts of the first windows of clips, each of exactly `new_tokens` tokens; for measurements."""
        prompt = self.prompt(options)
        found = [
            self._decode(features, prompt, options, most=new_tokens, least=new_tokens)
            for features in self.features(audio)
        ]
        return [self.vocabulary.text(one.tokens) for one in found]

    def listen(self, windows: Sequence[Window], options: DecodeOptions, most: int) -> list[Found]:
        """At most `most` tokens of each window from its frame `seek` on; fills in languages."""
        found = []
        for window in windows:
            features = window.window(2 * int(self._dims["source_positions"]))
            if self.vocabulary.languages and window.language is None:
                window.language = self._spoken(features)
            prompt = self.vocabulary.prompt(options, window.language)
            found.append(self._decode(features, prompt, options, most=most, least=0))
        return found

    def _spoken(self, features: Floats) -> str:
        """The language of a window `[mels, frames]`, as the model hears it."""
        import torch

        known = torch.tensor(list(self.vocabulary.languages.values()))
        [heard] = self._language([torch.from_numpy(features[None]), known])
        return next(code for code, token in self.vocabulary.languages.items() if token == int(heard))

    def _decode(
        self, features: Floats, prompt: list[int], options: DecodeOptions, *, most: int, least: int
    ) -> Found:
        """What the program hears in a window `[mels, frames]`."""
        import torch

        given = [torch.from_numpy(np.ascontiguousarray(features[None])), torch.tensor(prompt)]
        tokens, logprob, silence = self._listen([*given, most, least, options.timestamps])
        said: list[int] = tokens.tolist()
        steps = len(said)
        if said and said[-1] == self.vocabulary.end:
            said = said[:-1]
        return Found(said, float(logprob), steps, float(silence))
