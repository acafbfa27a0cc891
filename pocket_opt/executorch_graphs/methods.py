"""The methods of a Whisper program: modules with named ports of static shapes, and what the program tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocket_opt.artifact import Artifact, Component, Port, link_file
from pocket_opt.executorch_graphs.decoder import Decoder
from pocket_opt.executorch_graphs.encoder import Encoder
from pocket_opt.executorch_graphs.mel import Mel
from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, Checkpoint, WhisperDims

SETTINGS = ("generation_config.json", "config.json")
DTYPES = {"float32": torch.float32, "int64": torch.int64}


@dataclass(frozen=True)
class Method:
    """A module that becomes a method of a program; its inputs are positional, in the order of `inputs`."""

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def ports(self) -> dict[str, list[dict[str, Any]]]:
        """`inputs` and `outputs` as a manifest tells them."""
        return {
            "inputs": [asdict(port) for port in self.inputs],
            "outputs": [asdict(port) for port in self.outputs],
        }

    def examples(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes and types to trace it with."""
        return tuple(torch.zeros(port.shape, dtype=DTYPES[port.dtype]) for port in self.inputs)


def whisper_methods(checkpoint: Checkpoint, table: nn.Module, prompt: int = 1) -> dict[str, Method]:
    """`mel`, `encoder` and `decoder` of a checkpoint; `table` looks token embeddings up.

    Where a `prompt` has more tokens than one, also `prefill`: the decoder's module, for all of them in one call.
    """
    dims = checkpoint.dims
    audio = Port("audio", "float32", (1, dims.samples))
    features = Port("features", "float32", (1, dims.mels, dims.frames))
    hidden = Port("encoder_hidden", "float32", (1, dims.source_positions, dims.d_model))
    cross = [
        port
        for index in range(dims.decoder_layers)
        for port in _pair(dims, "cross", index, dims.source_positions)
    ]
    methods = {
        "mel": Method(Mel(dims), (audio,), (features,)),
        "encoder": Method(Encoder(checkpoint), (features,), (hidden, *cross)),
    }
    module = Decoder(checkpoint, table, prompt)
    if prompt > 1:
        methods["prefill"] = _text_method(module, dims, prompt)
    return {**methods, "decoder": _text_method(module, dims, 1)}


def _text_method(module: Decoder, dims: WhisperDims, count: int) -> Method:
    """The decoder for `count` tokens a call."""
    new = [port for index in range(dims.decoder_layers) for port in _pair(dims, "new", index, count)]
    token = (
        Port("tokens", "int64", (count,)),
        Port("position", "int64", (count,)),
        Port("cache_mask", "float32", (1, dims.target_positions)),
    )
    caches = [
        port
        for index in range(dims.decoder_layers)
        for kind, length in (("past", dims.target_positions), ("cross", dims.source_positions))
        for port in _pair(dims, kind, index, length)
    ]
    logits = Port("logits", "float32", (1, count, dims.vocab))
    return Method(module, (*token, *caches), (logits, *new))


def described(source: Artifact, methods: Mapping[str, Method], program: Path, runtime: str) -> Artifact:
    """The file `program` as an artifact beside it: methods as components, processor, two configuration files."""
    workdir = program.parent
    artifact = source.carry(workdir, without=("model",))
    for name in SETTINGS:
        link_file(source.file("model", name), workdir / name)
    for name, method in methods.items():
        part = Component(runtime, (program.name,), method.inputs, method.outputs)
        artifact = artifact.with_component(name, part)
    return artifact.with_component(
        "generation",
        Component("json", SETTINGS),
        runtime=runtime,
        decoder="static",
        audio_context="full",
    )


def constants(dims: WhisperDims, generation: Mapping[str, Any]) -> dict[str, int]:
    """What a program can be asked: its lengths, and the ids that decoding begins and ends with.

    Names as in the programs of optimum-executorch, so that its callers find them.
    """
    found = {
        "get_max_seq_len": dims.target_positions,
        "get_vocab_size": dims.vocab,
        "get_n_layers": dims.decoder_layers,
        "get_sample_rate": SAMPLE_RATE,
        "get_window_samples": dims.samples,
        "decoder_start_token_id": generation.get("decoder_start_token_id"),
        "get_bos_id": generation.get("bos_token_id"),
        "get_eos_id": _first(generation.get("eos_token_id")),
        "get_pad_id": generation.get("pad_token_id"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _first(value: Any) -> Any:
    """An id, also where a list of them is given."""
    return value[0] if isinstance(value, list) else value


def _pair(dims: WhisperDims, kind: str, index: int, length: int) -> tuple[Port, Port]:
    shape = (dims.decoder_heads, length, dims.d_model // dims.decoder_heads)
    return Port(f"{kind}_key_{index}", "float32", shape), Port(f"{kind}_value_{index}", "float32", shape)
