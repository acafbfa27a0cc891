"""Reads a Whisper checkpoint in the Hugging Face layout, one tensor at a time and without torch.

The safetensors header is parsed here because tensors must be read one by one into fp32, whatever they are
stored as (numpy knows no bfloat16), and without mapping whole files into the process. Format:
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models.layout import CONFIG, INDEXES, read_table, weight_files

SAMPLE_RATE = 16_000
FRAMES_PER_SECOND = 100
"""One feature frame per hop of 160 samples."""

FloatArray = npt.NDArray[np.float32]
Spec = tuple[str, tuple[int, ...]]
"""Name and shape of a tensor."""


@dataclass(frozen=True)
class WhisperDims:
    """The sizes that fix a Whisper graph; `mels` bins, positions in encoder frames (20 ms) and decoder tokens."""

    d_model: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    mels: int
    vocab: int
    source_positions: int
    target_positions: int

    @property
    def frames(self) -> int:
        """Feature frames of one window; the second convolution halves them into `source_positions`."""
        return 2 * self.source_positions

    @property
    def window_s(self) -> float | int:
        """Seconds of audio in one window (a whole number stays an int)."""
        return _whole(self.frames / FRAMES_PER_SECOND)

    @property
    def samples(self) -> int:
        """Audio samples of one window."""
        return self.frames * SAMPLE_RATE // FRAMES_PER_SECOND

    def metadata(self) -> dict[str, Any]:
        """The `dims` table of an artifact's metadata."""
        return {**asdict(self), "window_s": self.window_s, "sample_rate": SAMPLE_RATE}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `length` bytes at `offset` of `file`, in the safetensors type `dtype`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True)
class Checkpoint:
    """A Whisper checkpoint: its dimensions, its configuration and a table of tensors that are read on demand."""

    directory: Path
    dims: WhisperDims
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    def stored(self, name: str) -> StoredTensor:
        """The entry of state-dict tensor `name`; checkpoints of the bare `WhisperModel` lack the `model.` prefix."""
        for key in (name, name.removeprefix("model.")):
            if key in self.tensors:
                return self.tensors[key]
        raise UserError(
            f"the checkpoint has no tensor '{name}'",
            where=str(self.directory),
            fix="use a complete WhisperForConditionalGeneration checkpoint whose config.json belongs to it",
        )

    def read(self, name: str) -> FloatArray:
        """Tensor `name` as float32, checked to be finite."""
        stored = self.stored(name)
        with stored.file.open("rb") as file:
            file.seek(stored.offset)
            array = _to_float32(stored.dtype, file.read(stored.length)).reshape(stored.shape)
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise PocketOptError(
                f"the weight '{name}' holds values that are not finite",
                where=stored.file.name,
                fix="use a checkpoint that is not damaged",
            )
        return array


def open_checkpoint(directory: Path) -> Checkpoint:
    """Open the Whisper checkpoint in `directory`, proved to hold every tensor of its architecture.

    Raises:
        UserError: it is incomplete, damaged, of another architecture, or its tensors are not those of its config.json.
    """
    config = read_config(directory)
    dims = read_dims(config, directory / CONFIG)
    checkpoint = Checkpoint(directory, dims, config, read_tensor_table(directory))
    for name, shape in state_dict_specs(dims):
        found = checkpoint.stored(name).shape
        if found != shape:
            raise UserError(
                f"the weight '{name}' has shape {list(found)}",
                where=str(directory),
                allowed=f"{list(shape)}, from config.json",
                fix="use the config.json that belongs to the weights",
            )
    return checkpoint


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config.json, proved to describe a Whisper model that the graphs here can express."""
    path = directory / CONFIG
    if not path.is_file():
        raise UserError(
            f"there is no {CONFIG}, so this is not a checkpoint in the Hugging Face layout",
            where=str(directory),
            allowed="a directory with config.json, model.safetensors and the tokenizer files",
            fix="name the directory that holds config.json",
        )
    config = read_table(path)
    found = config.get("model_type")
    if found != "whisper":
        named = ", ".join(config.get("architectures") or []) or "no architecture"
        raise UserError(
            f"the checkpoint is of another architecture: model_type '{found}' ({named})",
            where=str(path),
            allowed="model_type 'whisper'",
            fix="choose a Whisper checkpoint for this recipe",
        )
    _refuse_variants(config, path)
    return config


def _refuse_variants(config: Mapping[str, Any], path: Path) -> None:
    """No published Whisper uses these settings, and the graphs here do not express them."""
    expected: dict[str, Any] = {
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
    }
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UserError(
                f"the Whisper variant with {key}={config[key]!r} is not supported",
                where=str(path),
                allowed=f"{key}={value!r}",
                fix="choose a checkpoint with the settings that every published Whisper has",
            )


def read_dims(config: Mapping[str, Any], path: Path) -> WhisperDims:
    """The dimensions in `config`; UserError naming the key that is missing or not a positive integer."""

    def number(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or value <= 0:
            raise UserError(
                f"'{key}' is {value!r}",
                where=str(path),
                allowed="a positive whole number",
                fix="restore the config.json that belongs to the weights",
            )
        return value

    return WhisperDims(
        d_model=number("d_model"),
        encoder_layers=number("encoder_layers"),
        decoder_layers=number("decoder_layers"),
        encoder_heads=number("encoder_attention_heads"),
        decoder_heads=number("decoder_attention_heads"),
        encoder_ffn_dim=number("encoder_ffn_dim"),
        decoder_ffn_dim=number("decoder_ffn_dim"),
        mels=number("num_mel_bins"),
        vocab=number("vocab_size"),
        source_positions=number("max_source_positions"),
        target_positions=number("max_target_positions"),
    )


def state_dict_specs(dims: WhisperDims) -> Iterator[Spec]:
    """Name and shape of every tensor of a `WhisperForConditionalGeneration` (the tied head has none of its own)."""
    width = dims.d_model
    yield from _module("model.encoder.conv1", (width, dims.mels, 3))
    yield from _module("model.encoder.conv2", (width, width, 3))
    yield "model.encoder.embed_positions.weight", (dims.source_positions, width)
    for index in range(dims.encoder_layers):
        name = f"model.encoder.layers.{index}"
        yield from _attention(f"{name}.self_attn", width)
        yield from _feed_forward(name, width, dims.encoder_ffn_dim)
    yield from _module("model.encoder.layer_norm", (width,))
    yield "model.decoder.embed_tokens.weight", (dims.vocab, width)
    yield "model.decoder.embed_positions.weight", (dims.target_positions, width)
    for index in range(dims.decoder_layers):
        name = f"model.decoder.layers.{index}"
        yield from _attention(f"{name}.self_attn", width)
        yield from _attention(f"{name}.encoder_attn", width)
        yield from _feed_forward(name, width, dims.decoder_ffn_dim)
    yield from _module("model.decoder.layer_norm", (width,))


def _module(name: str, shape: tuple[int, ...], *, bias: bool = True) -> Iterator[Spec]:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def _attention(name: str, width: int) -> Iterator[Spec]:
    for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _module(f"{name}.{projection}", (width, width), bias=projection != "k_proj")
    yield from _module(f"{name}_layer_norm", (width,))


def _feed_forward(name: str, width: int, hidden: int) -> Iterator[Spec]:
    yield from _module(f"{name}.fc1", (hidden, width))
    yield from _module(f"{name}.fc2", (width, hidden))
    yield from _module(f"{name}.final_layer_norm", (width,))


def read_tensor_table(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint in safetensors, and where it lies."""
    names = [name for name in weight_files(directory) if name not in INDEXES]
    return {name: tensor for file in names for name, tensor in _read_header(directory / file).items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        return {
            name: _entry(path, 8 + length, entry) for name, entry in header.items() if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path.name} is not a safetensors file, or it is damaged",
            where=str(path),
            fix="download the checkpoint again",
        ) from error


def _entry(path: Path, base: int, entry: Mapping[str, Any]) -> StoredTensor:
    begin, end = entry["data_offsets"]
    if base + end > path.stat().st_size:
        raise ValueError("the file ends before its last tensor")
    return StoredTensor(path, entry["dtype"], tuple(entry["shape"]), base + begin, end - begin)


def _bfloat16_to_float32(raw: bytes) -> FloatArray:
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


_READERS: dict[str, Callable[[bytes], FloatArray]] = {
    "F32": lambda raw: np.frombuffer(raw, "<f4"),
    "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    "BF16": _bfloat16_to_float32,
    "F64": lambda raw: np.frombuffer(raw, "<f8").astype(np.float32),
}


def _to_float32(dtype: str, raw: bytes) -> FloatArray:
    if dtype not in _READERS:
        raise PocketOptError(
            f"weights of type {dtype} are not supported",
            allowed=", ".join(_READERS),
            fix="use the original checkpoint, not a quantized one",
        )
    return _READERS[dtype](raw)


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value
