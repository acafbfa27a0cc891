"""A window to tokens at one go: the decoding loop as part of the program, greedy, by the rules of `runner/rules.py`.

How often the loop runs depends on what is heard, and which tokens may follow on what was said. That is what
`torch.export` refuses ("data-dependent"), and what TorchScript keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pocket_opt.executorch_graphs.methods import Method
from pocket_opt.models.whisper.runner.static_decoder import MASKED
from pocket_opt.torchscript_graphs.program import quiet


class StackedEncoder(nn.Module):
    """The cross-attention caches of all layers as one tensor `[2 * layers, heads, positions, head_dim]`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        """`[1, mels, frames]` to keys and values of each layer."""
        _, *caches = self.encoder(features)
        return torch.stack(caches)


class StackedDecoder(nn.Module):
    """One token, with the caches of all layers as one tensor."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, token: Tensor, position: Tensor, mask: Tensor, past: Tensor, cross: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores `[vocab]`, and the new rows `[2 * layers, heads, 1, head_dim]`."""
        pairs = [torch.unbind(caches) for caches in (past, cross)]
        caches = [
            cache
            for key in range(0, past.shape[0], 2)
            for kind in pairs
            for cache in (kind[key], kind[key + 1])
        ]
        logits, *new = self.decoder(token, position, mask, *caches)
        return logits.view(-1), torch.stack(new)


class Listener(nn.Module):
    """`mel`, `encode` and `decode` (traced) with the loop around them; it is there to be scripted.

    Args:
        ids: special tokens and what the rules need; see `special_ids`.
        caches: shape of a clip's cache, `[2 * layers, heads, context, head_dim]`.
    """

    def __init__(
        self, mel: Any, encode: Any, decode: Any, ids: Mapping[str, Any], caches: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.mel, self.encode, self.decode = mel, encode, decode
        self.caches, self.masked, self.lowest = list(caches), MASKED, -math.inf
        self.start, self.end, self.no_speech = int(ids["start"]), int(ids["end"]), int(ids["no_speech"])
        self.no_timestamps, self.latest_first = int(ids["no_timestamps"]), int(ids["latest_first"])
        self.never = torch.tensor(ids["never"], dtype=torch.int64)
        self.never_first = torch.tensor(ids["never_first"], dtype=torch.int64)

    def forward(self, audio: Tensor) -> Tensor:
        """Features `[1, mels, frames]` of samples `[1, samples]`."""
        features: Tensor = self.mel(audio)
        return features

    @torch.jit.export
    def language(self, features: Tensor, known: Tensor) -> Tensor:
        """The most probable of the language tokens `known` `[count]`."""
        cross, past, mask = self.encode(features), torch.zeros(self.caches), self._mask()
        start, first = torch.tensor([self.start]), torch.tensor([0])
        scores, _ = self.decode(start, first, mask, past, cross)
        return known[scores[known].argmax()]

    @torch.jit.export
    def listen(
        self, features: Tensor, prompt: Tensor, most: int, least: int, timestamps: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens after `prompt` `[length]`, `least` to `most`, their log probability, and that of no speech."""
        cross, past, mask = self.encode(features), torch.zeros(self.caches), self._mask()
        scores, silence = torch.zeros(1), torch.zeros(1)
        for place in range(prompt.shape[0]):
            scores = self._step(int(prompt[place]), place, mask, past, cross)
            if int(prompt[place]) == self.start:
                silence = torch.softmax(scores, 0)[self.no_speech]
        said = torch.jit.annotate(list[int], [])
        gained = torch.zeros(1)
        while len(said) < most:
            self._forbid(scores, said, timestamps, len(said) < least)
            chosen = int(scores.argmax())
            gained = gained + torch.log_softmax(scores, 0)[chosen]
            said.append(chosen)
            if chosen == self.end:
                break
            if len(said) < most:
                scores = self._step(chosen, prompt.shape[0] + len(said) - 1, mask, past, cross)
        return torch.tensor(said, dtype=torch.int64), gained, silence

    def _mask(self) -> Tensor:
        return torch.full([1, self.caches[2]], self.masked)

    def _step(self, token: int, place: int, mask: Tensor, past: Tensor, cross: Tensor) -> Tensor:
        """Feed a token at `place`; the caches and their mask are changed."""
        scores, new = self.decode(torch.tensor([token]), torch.tensor([place]), mask, past, cross)
        past[:, :, place] = new[:, :, 0]
        mask[0, place] = 0.0
        found: Tensor = scores
        return found

    def _forbid(self, scores: Tensor, said: list[int], timestamps: bool, must_go_on: bool) -> None:
        """Set forbidden scores to -inf, as `Rules.apply` does."""
        scores[self.never if len(said) > 0 else self.never_first] = self.lowest
        if must_go_on:
            scores[self.end] = self.lowest
        if not timestamps:
            return
        begin = self.no_timestamps + 1
        scores[self.no_timestamps] = self.lowest
        after_time = len(said) > 0 and said[-1] >= begin
        after_pair = after_time and (len(said) == 1 or said[-2] >= begin)
        if after_pair:
            scores[begin:] = self.lowest
        elif after_time:
            scores[: self.end] = self.lowest
        latest = -1
        for token in said:
            if token >= begin:
                latest = token
        if latest >= 0:
            scores[begin : latest + int(not after_time or after_pair)] = self.lowest
        if len(said) == 0:
            scores[:begin] = self.lowest
            if self.latest_first >= 0:
                scores[begin + self.latest_first + 1 :] = self.lowest
        if bool(torch.logsumexp(scores[begin:], 0) > scores[:begin].max()):
            scores[:begin] = self.lowest


def listener(methods: Mapping[str, Method], ids: Mapping[str, Any]) -> Any:
    """The loop around the modules of `methods`, which are traced; `torch.jit.script` makes the program of it."""
    mel, encoder, decoder = (methods[name] for name in ("mel", "encoder", "decoder"))
    cross, past = (
        [port for port in decoder.inputs if port.name.startswith(kind)] for kind in ("cross_", "past_")
    )
    caches = (len(past), *(int(size) for size in past[0].shape))
    stacked = torch.zeros(caches), torch.zeros(len(cross), *cross[0].shape)
    with quiet(), torch.no_grad():
        parts = [
            torch.jit.trace(module.eval(), given, check_trace=False)
            for module, given in (
                (mel.module, mel.examples()),
                (StackedEncoder(encoder.module), encoder.examples()),
                (StackedDecoder(decoder.module), (*decoder.examples()[:3], *stacked)),
            )
        ]
    mel_part, encode, decode = parts
    return Listener(mel_part, encode, decode, ids, caches).eval()


def special_ids(generation: Mapping[str, Any], vocabulary: Any, size: int) -> dict[str, Any]:
    """What the loop must know of a model: the ids that are special, and those that never come (first)."""
    never, not_first = (
        {token for token in generation.get(key) or () if 0 <= token < size}
        for key in ("suppress_tokens", "begin_suppress_tokens")
    )
    latest = generation.get("max_initial_timestamp_index")
    return {
        "start": vocabulary.start,
        "end": vocabulary.end,
        "no_speech": vocabulary.no_speech,
        "no_timestamps": vocabulary.no_timestamps,
        "latest_first": -1 if latest is None else latest,
        "never": sorted(never),
        "never_first": sorted(never | not_first),
    }
