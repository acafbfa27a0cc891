"""The graphs of other people's software, called as they call them, so that their numbers are measured here, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .onnxruntime_backend import OnnxRuntimeBackend, State, run_session, value_of
from .rules import Tokens


class MergedBackend(OnnxRuntimeBackend):
    """Optimum and transformers.js: one decoder with a switch, which makes the cross-attention cache itself."""

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        encoded = run_session(self._encoder, {"input_features": value_of(features)})
        hidden = {"encoder_hidden_states": encoded["last_hidden_state"]}
        return State(hidden, {}, np.zeros((len(features), 0), np.int64), np.arange(len(features)))

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state.encoded["encoder_hidden_states"].numpy(), np.float32)

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        begins = not state.past
        given = {"input_ids": value_of(tokens), "use_cache_branch": value_of(np.array([not begins]))}
        past = self._nothing(len(tokens)) if begins else state.past
        outputs = run_session(self._decoder, {**given, **past, **state.encoded})
        caches = {
            name.replace("present", "past_key_values"): value
            for name, value in outputs.items()
            if name.startswith("present")
        }
        cross = {name: value for name, value in caches.items() if ".encoder." in name}
        own = {name: value for name, value in caches.items() if name not in cross}
        encoded = {**state.encoded, **cross} if begins else state.encoded
        fed = np.concatenate([state.tokens, tokens], axis=1)
        return outputs["logits"].numpy(), State(encoded, own, fed, state.clips)

    def _nothing(self, batch: int) -> dict[str, Any]:
        """Caches of length 0, which the decoder asks for where a text begins."""
        return {
            name: value_of(np.zeros((batch, port.shape[1], 0, port.shape[3]), np.float32))
            for name, port in self._ports.items()
            if name.startswith("past_key_values")
        }


class StackedBackend(OnnxRuntimeBackend):
    """sherpa-onnx: the caches of all layers in one tensor, written at an offset."""

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        encoded = run_session(self._encoder, {"mel": value_of(features)})
        past, batch = {}, len(features)
        for name, port in self._ports.items():
            if name.startswith("in_"):
                layers, _, *rest = port.shape
                past[name] = value_of(np.zeros((layers, batch, *rest), np.float32))
        return State(encoded, past, np.zeros((batch, 0), np.int64), np.arange(batch))

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        offset = value_of(np.array([state.tokens.shape[1]], np.int64))
        cross = {name: value for name, value in state.encoded.items() if name in self._ports}
        given = {"tokens": value_of(tokens), "offset": offset, **cross, **state.past}
        outputs = run_session(self._decoder, given)
        past = {name: outputs[name.replace("in_", "out_")] for name in state.past}
        fed = np.concatenate([state.tokens, tokens], axis=1)
        return outputs["logits"].numpy(), State(state.encoded, past, fed, state.clips)

    def _rows(self, values: Mapping[str, Any], chosen: Tokens) -> dict[str, Any]:
        """Of stacked caches the second axis is the batch."""
        return {
            name: value_of(np.take(value.numpy(), chosen, axis=int("n_layer" in name)))
            for name, value in values.items()
        }


BACKENDS = {"optimum": MergedBackend, "transformers_js": MergedBackend, "sherpa_onnx": StackedBackend}
"""Layout -> how its graphs are called. Those of onnxruntime-genai have the ports of the native layout."""


def open_layout(
    directory: Path, table: Mapping[str, Any], threads: int, *, traces: Path | None = None
) -> OnnxRuntimeBackend:
    """The model that `table` describes, in the layout that its metadata names."""
    backend = BACKENDS.get(str(table["metadata"]["layout"]), OnnxRuntimeBackend)
    return backend(directory, table, threads, traces=traces)
