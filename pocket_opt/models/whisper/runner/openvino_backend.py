"""The models `mel`, `encoder` and `decoder` on the CPU with OpenVINO.

Nothing large is copied: what the encoder wrote is what the decoder reads, and the decoder keeps its own caches as
states. Infer requests hold these, so a state of the loop holds a request, which is used again once the state is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .cross_attention import attention, tells_attention
from .rules import Tokens
from .word_times import Attention

BEAMS = "beam_idx"


class Lease:
    """An infer request of a compiled model; back in `pool` when nothing refers to the lease any more.

    Attributes:
        shown: which rows of the encoder's output the request has been shown, None before the first call.
    """

    def __init__(self, model: Any, pool: list[Any]) -> None:
        self.request = pool.pop() if pool else model.create_infer_request()
        self.shown: tuple[int, ...] | None = None
        self._pool = pool

    def __del__(self) -> None:
        self._pool.append(self.request)


@dataclass(frozen=True)
class State:
    """What the decoder remembers.

    Attributes:
        encoded: holds the encoder's output.
        rows: the row of it that each row of this state reads.
        decoding: holds the caches; None before the first call of the decoder.
        beams: the row of the last call that each row goes on from.
        tokens: `[batch, length]` fed so far, for a decoder without cache.
    """

    encoded: Lease
    rows: tuple[int, ...]
    decoding: Lease | None
    beams: tuple[int, ...]
    tokens: Tokens


class OpenVinoBackend:
    """Compiled models of `directory`, as its `table` (manifest or artifact description) lists them.

    Attributes:
        last: the infer request that ran last, for profilers.
    """

    def __init__(
        self, directory: Path, table: Mapping[str, Any], threads: int, extra: Mapping[str, Any] | None = None
    ) -> None:
        import openvino

        settings = {**_settings(table["metadata"].get("session", {}), threads), **(extra or {})}
        core = openvino.Core()
        self._mel, self._encoder, self._decoder = (
            core.compile_model(directory / table["components"][name]["files"][0], "CPU", settings)
            for name in ("mel", "encoder", "decoder")
        )
        self._tensor = openvino.Tensor
        self._listen = self._mel.create_infer_request()
        self._encoders: list[Any] = []
        self._decoders: list[Any] = []
        names = {name for port in self._decoder.inputs for name in port.get_names()}
        self._cached = BEAMS in names
        self._told = [
            name for port in self._decoder.outputs for name in port.get_names() if tells_attention(name)
        ]
        self._heads = int(table["metadata"]["dims"]["decoder_heads"])
        self._read = sorted(names - {"tokens", BEAMS})
        self.last: Any = None

    def features(self, batch: Floats) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        self._listen.set_input_tensor(self._tensor(batch, shared_memory=True))
        self._run(self._listen)
        return np.array(self._listen.get_output_tensor().data)

    def encode(self, features: Floats) -> State:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        lease = Lease(self._encoder, self._encoders)
        array = np.ascontiguousarray(features, np.float32)
        lease.request.set_input_tensor(self._tensor(array, shared_memory=True))
        self._run(lease.request)
        rows = tuple(range(len(features)))
        return State(lease, rows, None, rows, np.zeros((len(rows), 0), np.int64))

    def encoder_hidden(self, state: State) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        hidden = state.encoded.request.get_tensor("encoder_hidden").data
        return np.asarray(hidden[list(state.rows)], np.float32)

    def decode(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        lease = state.decoding or self._start()
        fed = np.concatenate([state.tokens, tokens], axis=1)
        if lease.shown != state.rows:
            self._show(lease, state)
        given = np.ascontiguousarray(tokens if self._cached else fed)
        lease.request.set_tensor("tokens", self._tensor(given, shared_memory=True))
        if self._cached:
            beams = np.array(state.beams, np.int32)
            lease.request.set_tensor(BEAMS, self._tensor(beams, shared_memory=True))
        self._run(lease.request)
        logits = np.array(lease.request.get_tensor("logits").data[:, -tokens.shape[1] :])
        rows = tuple(range(len(state.rows)))
        return logits, State(state.encoded, state.rows, lease, rows, fed)

    def attend(self, tokens: Tokens, state: State) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        logits, after = self.decode(tokens, state)
        assert after.decoding is not None
        found = {name: after.decoding.request.get_tensor(name).data for name in self._told}
        keys = {
            name: state.encoded.request.get_tensor(name).data[list(state.rows)]
            for name in self._read
            if tells_attention(name)
        }
        return logits, attention(found, keys, self._heads)

    def select(self, state: State, rows: Sequence[int]) -> State:
        """The state of some rows, in this order; a row may be there several times."""
        chosen = tuple(state.rows[row] for row in rows)
        beams = tuple(state.beams[row] for row in rows) if state.decoding else tuple(range(len(rows)))
        return State(state.encoded, chosen, state.decoding, beams, state.tokens[list(rows)])

    def _start(self) -> Lease:
        lease = Lease(self._decoder, self._decoders)
        lease.request.reset_state()
        return lease

    def _show(self, lease: Lease, state: State) -> None:
        """Let a decoder's request read the encoder's output where it lies, or a copy of the rows that it needs."""
        for name in self._read:
            tensor = state.encoded.request.get_tensor(name)
            if state.rows != tuple(range(tensor.shape[0])):
                tensor = self._tensor(tensor.data[list(state.rows)])
            lease.request.set_tensor(name, tensor)
        lease.shown = state.rows

    def _run(self, request: Any) -> None:
        request.infer()
        self.last = request


def open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> OpenVinoBackend:
    """The model that `table` describes; `threads` 0 leaves their number to OpenVINO."""
    return OpenVinoBackend(directory, table, threads)


def _settings(session: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The plugin's properties: one request at a time, as quick as it can."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if session.get("precision", "f32") != "default":
        settings["INFERENCE_PRECISION_HINT"] = session.get("precision", "f32")
        settings["KV_CACHE_PRECISION"] = session.get("cache_precision", "f32")
    return settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
