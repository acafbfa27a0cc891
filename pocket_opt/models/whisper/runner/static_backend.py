"""Graphs of static shapes, `encoder`, `prefill` and `decoder`, which take one clip a call; `mel` takes any number.

What runs them is a session of ONNX Runtime, on whatever processor it was opened for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .rules import Tokens
from .static_decoder import Arrays, Call, Row, StaticDecoder

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
}
"""Types of ports. Caches of integers go from graph to graph on one grid, which only the graphs know."""
TEXT = ("prefill", "decoder")
"""Graphs of the decoder, each for its number of tokens."""


@dataclass
class StaticState:
    """What the encoder gave for each clip, until decoding starts; then each row has its own part of it."""

    encoded: list[Arrays]
    rows: list[Row] | None


class StaticBackend:
    """Runs `sessions`, by the names of their graphs; "prefill" may be missing."""

    def __init__(self, sessions: Mapping[str, Any]) -> None:
        self._sessions = sessions
        ports = {port.name: port for port in sessions["decoder"].get_inputs()}
        caches = {name: port for name, port in ports.items() if name.startswith("past_")}
        self._cross = {name: DTYPES[port.type] for name, port in ports.items() if name.startswith("cross_")}
        calls = {
            session.get_inputs()[_place(session, "tokens")].shape[1]: _call(session)
            for session in (sessions[name] for name in TEXT if name in sessions)
        }
        dtypes = DTYPES[next(iter(caches.values())).type], DTYPES[ports["cache_mask"].type]
        self._decoder = StaticDecoder(calls, {name: port.shape for name, port in caches.items()}, *dtypes)

    def features(self, batch: Floats | Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        mel = self._sessions["mel"]
        result: Floats = mel.run(None, {mel.get_inputs()[0].name: np.asarray(batch)})[0]
        return result

    def encode(self, features: Floats) -> StaticState:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        session = self._sessions["encoder"]
        port, run = session.get_inputs()[0], _call(session)
        clips = features.astype(DTYPES[port.type], copy=False)
        return StaticState([run({port.name: clip[None]}) for clip in clips], None)

    def encoder_hidden(self, state: StaticState) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.concatenate([clip["encoder_hidden"] for clip in state.encoded]).astype(np.float32)

    def decode(self, tokens: Tokens, state: StaticState) -> tuple[Floats, StaticState]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        rows = self._start(state) if state.rows is None else state.rows
        return self._decoder.decode(tokens, rows), StaticState(state.encoded, rows)

    def select(self, state: StaticState, rows: Sequence[int]) -> StaticState:
        """The state of some rows, in this order; a row may be there several times."""
        encoded = [state.encoded[row] for row in rows]
        return StaticState(encoded, None if state.rows is None else [state.rows[row].copy() for row in rows])

    def end_traces(self) -> dict[str, Path]:
        """The profile of each graph, where sessions write one; nothing is recorded after this call."""
        return {name: Path(session.end_profiling()) for name, session in self._sessions.items()}

    def _start(self, state: StaticState) -> list[Row]:
        return self._decoder.start(
            [
                {name: clip[name].astype(dtype, copy=False) for name, dtype in self._cross.items()}
                for clip in state.encoded
            ]
        )


def _place(session: Any, name: str) -> int:
    return [port.name for port in session.get_inputs()].index(name)


def _call(session: Any) -> Call:
    names = [port.name for port in session.get_outputs()]

    def call(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return call
