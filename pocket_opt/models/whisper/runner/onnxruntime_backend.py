"""The graphs `mel`, `encoder` and `decoder` on the CPU with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .audio import Floats
from .cross_attention import attention, tells_attention
from .extensions import extensions_library
from .rules import Tokens
from .static_backend import DTYPES, StaticBackend
from .transcript import RequestError
from .word_times import Attention

GRAPHS = ("mel", "encoder", "decoder")


@dataclass(frozen=True)
class State:
    """What the decoder remembers. Never changed: one state can be continued in several ways.

    `encoded` and `past` hold ONNX Runtime values by name; `past` is empty for a decoder without cache, which reads
    `tokens` `[batch, length]`, all that was fed so far, again at each step. `clips` `[batch]` tells rows that hear the
    same apart from others.
    """

    encoded: Mapping[str, Any]
    past: Mapping[str, Any]
    tokens: Tokens
    clips: Tokens


class OnnxRuntimeBackend:
    """Sessions on the files of `directory`, as its `table` lists them; see `open_sessions`."""

    def __init__(
        self, directory: Path, table: Mapping[str, Any], threads: int, *, traces: Path | None = None
    ) -> None:
        self._sessions = open_sessions(directory, table, GRAPHS, threads, traces=traces)
        self._mel, self._encoder, self._decoder = (self._sessions[name] for name in GRAPHS)
        self._ports = {port.name: port for port in self._decoder.get_inputs()}
        outputs = [port.name for port in self._decoder.get_outputs()]
        self._stepping = [name for name in outputs if not tells_attention(name)]
        self._heads = int(table["metadata"]["dims"]["decoder_heads"])

    def features(self, batch: Floats | Sequence[Floats]) -> Floats:
        """Log-mel `[batch, mels, frames]` of samples `[batch, samples]` that fill one window at most."""
        result: Floats = self._mel.run(None, {self._mel.get_inputs()[0].name: np.asarray(batch)})[0]
        return result

    def encode(self, features: Floats) -> Any:
        """Run the encoder on `[batch, mels, frames]`; the state in which decoding starts."""
        past = {
            name: value_of(np.zeros((len(features), port.shape[1], 0, port.shape[3]), DTYPES[port.type]))
            for name, port in self._ports.items()
            if name.startswith("past_")
        }
        batch = len(features)
        return State(self._encoded(features), past, np.zeros((batch, 0), np.int64), np.arange(batch))

    def encoder_hidden(self, state: Any) -> Floats:
        """The encoder's output `[batch, positions, d_model]`."""
        return np.asarray(state.encoded["encoder_hidden"].numpy(), np.float32)

    def decode(self, tokens: Tokens, state: Any) -> tuple[Floats, Any]:
        """Feed `tokens` `[batch, length]` after those of `state`: logits `[batch, length, vocab]`, new state."""
        fed = np.concatenate([state.tokens, tokens], axis=1)
        outputs = run_session(
            self._decoder, self._inputs(tokens if state.past else fed, state), self._stepping
        )
        logits = outputs.pop("logits").numpy().astype(np.float32, copy=False)[:, -tokens.shape[1] :]
        past = {name.replace("present_", "past_"): value for name, value in outputs.items()}
        return logits, State(state.encoded, past, fed, state.clips)

    def attend(self, tokens: Tokens, state: Any) -> tuple[Floats, Attention]:
        """Feed `tokens` `[batch, length]` to a state of `encode`: logits `[batch, length, vocab]`, attention."""
        outputs = run_session(self._decoder, self._inputs(tokens, state))
        found = {name: value.numpy() for name, value in outputs.items() if tells_attention(name)}
        keys = {name: value.numpy() for name, value in state.encoded.items() if tells_attention(name)}
        logits = outputs["logits"].numpy().astype(np.float32, copy=False)
        return logits, attention(found, keys, self._heads)

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of some rows, in this order; a row may be there several times.

        What was encoded is copied only where a row gets to hear another clip: not when the beams of a clip change.
        """
        chosen = np.asarray(rows, np.int64)
        clips = state.clips[chosen]
        same = np.array_equal(clips, state.clips)
        encoded = state.encoded if same else self._rows(state.encoded, chosen)
        return State(encoded, self._rows(state.past, chosen), state.tokens[chosen], clips)

    def _inputs(self, tokens: Tokens, state: State) -> dict[str, Any]:
        """What the decoder reads: `tokens`, the caches, and of the encoder's output what it takes."""
        encoded = {name: value for name, value in state.encoded.items() if name in self._ports}
        return {**encoded, **state.past, "tokens": value_of(tokens)}

    def _rows(self, values: Mapping[str, Any], chosen: Tokens) -> dict[str, Any]:
        return {name: value_of(value.numpy()[chosen]) for name, value in values.items()}

    def end_traces(self) -> dict[str, Path]:
        """The profile of each graph, where `traces` was given; nothing is recorded after this call."""
        return {name: Path(session.end_profiling()) for name, session in self._sessions.items()}

    def _encoded(self, features: Floats) -> dict[str, Any]:
        port = self._encoder.get_inputs()[0]
        return run_session(
            self._encoder, {port.name: value_of(features.astype(DTYPES[port.type], copy=False))}
        )


def open_backend(
    directory: Path, table: Mapping[str, Any], threads: int, *, traces: Path | None = None
) -> OnnxRuntimeBackend | StaticBackend:
    """The model that `table` (manifest or artifact description) describes; see `open_sessions`."""
    if "layout" in table["metadata"]:
        from .client_layouts import open_layout

        return open_layout(directory, table, threads, traces=traces)
    if table["metadata"].get("decoder") == "static":
        graphs = (*GRAPHS, *(name for name in ("prefill",) if name in table["components"]))
        return StaticBackend(open_sessions(directory, table, graphs, threads, traces=traces))
    return OnnxRuntimeBackend(directory, table, threads, traces=traces)


def open_sessions(
    directory: Path,
    table: Mapping[str, Any],
    graphs: Sequence[str],
    threads: int,
    *,
    traces: Path | None = None,
) -> dict[str, Any]:
    """Sessions on the files of `directory`, as its `table` lists them, by the names of their graphs.

    Args:
        threads: of each session; 0 leaves their number to ONNX Runtime.
        traces: a directory for profiles of all calls.
    """
    if lacking := set(graphs) - set(table["components"]):
        raise RequestError(f"{directory}: lists no {', '.join(sorted(lacking))} to run")
    settings = table["metadata"].get("session", {})
    return {
        name: open_session(
            directory / table["components"][name]["files"][0], settings, threads, traces and traces / name
        )
        for name in graphs
    }


def value_of(array: np.ndarray[Any, Any]) -> Any:
    """`array` as a value of ONNX Runtime."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def run_session(session: Any, inputs: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
    """The outputs `names`, by default all, of a session by name; nothing is copied on the way in or out."""
    names = names or [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run_with_ort_values(names, dict(inputs)), strict=True))


def open_session(file: Path, settings: Mapping[str, Any], threads: int, trace: Path | None = None) -> Any:
    """A session on the CPU with the settings a model was built for; `threads` 0 leaves their number to the runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about inputs that may be left out
    options.intra_op_num_threads = threads
    level = str(settings.get("graph_optimization", "all")).upper()
    level = "ORT_DISABLE_ALL" if level == "DISABLED" else f"ORT_ENABLE_{level}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for key, value in settings.get("entries", {}).items():
        options.add_session_config_entry(key, str(value))
    if settings.get("extensions"):
        options.register_custom_ops_library(extensions_library())
    if trace:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
