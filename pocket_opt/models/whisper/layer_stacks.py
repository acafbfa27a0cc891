"""A Whisper's encoder or decoder layers as a model of their own, for tools that quantize a stack layer by layer.

Tools for language models take one list of equal layers and feed it token ids; a Whisper has two lists, and features
of sound. So a stack holds the layers only and, per clip, what goes into the first of them: its one input, shaped like
token ids `[1, length]`, says which clip is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

NUMBER_OF_CLIP = 0


class LayerStack(torch.nn.Module):  # type: ignore[misc]
    """`layers` of a Whisper and, for each clip, their input `[1, length, d_model]`.

    Args:
        inputs: hidden states that enter the first layer.
        heard: for a decoder, the encoder's output of each clip `[1, positions, d_model]`; none for an encoder.
    """

    def __init__(
        self, layers: torch.nn.ModuleList, inputs: Sequence[torch.Tensor], heard: Sequence[torch.Tensor] = ()
    ) -> None:
        super().__init__()
        self.layers = layers
        self.config = PretrainedConfig()
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self._inputs, self._heard = list(inputs), list(heard)

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def hears(self) -> bool:
        """Whether the layers attend to an encoder's output."""
        return bool(self._heard)

    def with_layers(self, layers: torch.nn.ModuleList) -> LayerStack:
        """The same inputs for other layers."""
        return LayerStack(layers, self._inputs, self._heard)

    def of_one_length(self) -> LayerStack:
        """The same layers for inputs cut to the shortest clip's length: attention to what came before stays right."""
        shortest = min(one.shape[1] for one in self._inputs)
        return LayerStack(self.layers, [one[:, :shortest] for one in self._inputs], self._heard)

    def ticket(self, clip: int) -> torch.Tensor:
        """The input that stands for a clip `[1, length]`: first its number, then numbers that all differ.

        Equal tokens at an end would be taken for padding, which nothing is learned from.
        """
        ticket = torch.arange(self._inputs[clip].shape[1])[None]
        ticket[0, NUMBER_OF_CLIP] = clip
        return ticket

    def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """The last layer's output `[1, length, d_model]` for the clip that the ticket names."""
        clip = int(input_ids.flatten()[NUMBER_OF_CLIP])
        hidden = self._inputs[clip]
        for layer in self.layers:
            output = self._run(layer, hidden, clip)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def _run(self, layer: torch.nn.Module, hidden: torch.Tensor, clip: int) -> Any:
        if not self._heard:
            return layer(hidden, None)  # by place: tools that record keywords forget those that are None
        length = hidden.shape[1]
        later = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        return layer(hidden, attention_mask=later[None, None], encoder_hidden_states=self._heard[clip])

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Nothing: a tool that writes what it made finds its result in the layers themselves."""


def encoder_stack(model: Any, features: Sequence[torch.Tensor]) -> LayerStack:
    """The encoder layers of a `WhisperForConditionalGeneration`, fed with log-mel `[1, mels, frames]` of each clip."""
    encoder = model.model.encoder
    inputs = []
    for one in features:
        hidden = torch.nn.functional.gelu(encoder.conv1(one))
        hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
        inputs.append(hidden + encoder.embed_positions.weight[: hidden.shape[1]])
    return LayerStack(encoder.layers, inputs)


def decoder_stack(model: Any, tokens: Sequence[torch.Tensor], heard: Sequence[torch.Tensor]) -> LayerStack:
    """The decoder layers, fed with `tokens` `[1, length]` and the encoder's output of each clip."""
    decoder = model.model.decoder
    inputs = [decoder.embed_tokens(one) + decoder.embed_positions.weight[: one.shape[1]] for one in tokens]
    return LayerStack(decoder.layers, inputs, heard)
