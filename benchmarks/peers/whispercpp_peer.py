"""whisper.cpp in the build of pywhispercpp, stepped through its C interface; precision f16, q8_0 or q4_0.

The ggml file is written here from the checkpoint (format: whisper.cpp, `models/convert-h5-to-ggml.py` and
`whisper_model_load`); blocks are quantized by the library's own `ggml_quantize_chunk`. As in its `quantize` tool,
convolutions stay in 16 bits, positions, biases and norms in 32.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from protocol import serve, size_mb

MAGIC = 0x67676D6C
F32, F16 = 0, 1
QUANTIZED = {"q4_0": (2, 2, 18), "q8_0": (8, 7, 34)}
"""Precision -> type of a tensor, type of a file, bytes of a block of 32 values."""
QUANTIZATION_VERSION = 2000
RENAMED = (
    ("embed_tokens.weight", "token_embedding.weight"),
    ("embed_positions.weight", "positional_embedding"),
    ("layers.", "blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("self_attn.", "attn."),
    ("encoder_attn.", "cross_attn."),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
)


class Aheads(ctypes.Structure):
    """`whisper_aheads`."""

    _fields_ = (("count", ctypes.c_size_t), ("heads", ctypes.c_void_p))


class Settings(ctypes.Structure):
    """`whisper_context_params`."""

    _fields_ = (
        ("use_gpu", ctypes.c_bool),
        ("flash_attn", ctypes.c_bool),
        ("gpu_device", ctypes.c_int),
        ("dtw_token_timestamps", ctypes.c_bool),
        ("dtw_aheads_preset", ctypes.c_int),
        ("dtw_n_top", ctypes.c_int),
        ("dtw_aheads", Aheads),
        ("dtw_mem_size", ctypes.c_size_t),
    )


class WhisperCpp:
    """A context of whisper.cpp, fed step by step."""

    def __init__(self, job: dict[str, Any]) -> None:
        site = Path(sysconfig.get_paths()["platlib"])
        self.lib = ctypes.CDLL(str(site / "libwhisper.so"))
        file = Path(job["work"]) / f"ggml-{job['precision']}.bin"
        if not file.is_file():
            base = ctypes.CDLL(str(site / "libggml-base.so"))
            write_ggml(Path(job["checkpoint"]), file.with_suffix(".part"), job["precision"], base)
            file.with_suffix(".part").rename(file)
        self.size_mb = size_mb([file])
        self.threads = job["threads"]
        self.lib.whisper_context_default_params.restype = Settings
        self.lib.whisper_init_from_file_with_params.restype = ctypes.c_void_p
        self.lib.whisper_init_from_file_with_params.argtypes = (ctypes.c_char_p, Settings)
        self.lib.whisper_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        self.lib.whisper_get_logits.argtypes = (ctypes.c_void_p,)
        self.lib.whisper_print_system_info.restype = ctypes.c_char_p
        settings = self.lib.whisper_context_default_params()
        settings.use_gpu = False
        self.context = ctypes.c_void_p(
            self.lib.whisper_init_from_file_with_params(str(file).encode(), settings)
        )
        if not self.context:
            raise RuntimeError("whisper.cpp does not load its model")
        self.vocab = self.lib.whisper_n_vocab(self.context)
        self.build = self.lib.whisper_print_system_info().decode()

    def encode(self, features: Any) -> None:
        mel = np.ascontiguousarray(features[0], np.float32)
        data = mel.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._check(self.lib.whisper_set_mel(self.context, data, mel.shape[1], mel.shape[0]))
        self._check(self.lib.whisper_encode(self.context, 0, self.threads))
        self.fed = 0

    def decode(self, tokens: list[int]) -> Any:
        batch = (ctypes.c_int32 * len(tokens))(*tokens)
        self._check(self.lib.whisper_decode(self.context, batch, len(tokens), self.fed, self.threads))
        self.fed += len(tokens)
        logits = self.lib.whisper_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (len(tokens), self.vocab))[-1]

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise RuntimeError(f"whisper.cpp returned {status}")


def write_ggml(checkpoint: Path, file: Path, precision: str, base: Any) -> None:
    """Write the checkpoint (fp32 safetensors, tokenizer.json) as one ggml file."""
    config = json.loads((checkpoint / "config.json").read_text())
    kind, file_kind, block = QUANTIZED.get(precision, (F16, F16, 0))
    heads = (
        config["vocab_size"],
        config["max_source_positions"],
        config["d_model"],
        config["encoder_attention_heads"],
        config["encoder_layers"],
        config["max_target_positions"],
        config["d_model"],
        config["decoder_attention_heads"],
        config["decoder_layers"],
        config["num_mel_bins"],
        file_kind + (QUANTIZATION_VERSION if block else 0),
    )
    with file.open("wb") as out:
        out.write(struct.pack("<I11i", MAGIC, *heads))
        # The mel filters are not used: features come from outside.
        out.write(struct.pack("<2i", config["num_mel_bins"], 201))
        out.write(np.zeros((config["num_mel_bins"], 201), np.float32).tobytes())
        _write_words(out, checkpoint / "tokenizer.json", config["eos_token_id"])
        for name, values in tensors(checkpoint / "model.safetensors"):
            _write_tensor(out, name, values, kind, block, base)


def _write_words(out: IO[bytes], tokenizer: Path, count: int) -> None:
    """The ordinary tokens; their spelling is not used here, so they go in as the tokenizer writes them."""
    words = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    spelled = {index: word.encode() for word, index in words.items()}
    out.write(struct.pack("<i", count))
    for index in range(count):
        word = spelled.get(index, b"?")
        out.write(struct.pack("<i", len(word)) + word)


def _write_tensor(out: IO[bytes], name: str, values: Any, kind: int, block: int, base: Any) -> None:
    if name.endswith(("conv1.bias", "conv2.bias")):
        values = values[:, None]
    if values.ndim == 1 or name.endswith(("positional_embedding", "bias")):
        stored, data = F32, values.tobytes()
    elif values.ndim == 3 or not block:
        stored, data = F16, values.astype(np.float16).tobytes()
    else:
        stored, data = kind, _blocks(values, kind, block, base)
    encoded = name.encode()
    out.write(struct.pack("<3i", values.ndim, len(encoded), stored))
    out.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)) + encoded + data)


def _blocks(values: Any, kind: int, block: int, base: Any) -> bytes:
    rows, columns = values.shape
    result = ctypes.create_string_buffer(rows * columns // 32 * block)
    base.ggml_quantize_chunk.restype = ctypes.c_size_t
    base.ggml_quantize_chunk.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *3 * (ctypes.c_int64,),
        ctypes.c_void_p,
    )
    written = base.ggml_quantize_chunk(kind, values.ctypes.data, result, 0, rows, columns, None)
    if written != len(result):
        raise RuntimeError(f"ggml_quantize_chunk wrote {written} bytes instead of {len(result)}")
    return result.raw


def tensors(file: Path) -> Iterator[tuple[str, Any]]:
    """Tensors of a safetensors file by whisper.cpp's names."""
    with file.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if name == "proj_out.weight":
                continue
            begin, end = entry["data_offsets"]
            source.seek(8 + length + begin)
            values = np.frombuffer(source.read(end - begin), np.float32).reshape(entry["shape"])
            renamed = name.removeprefix("model.")
            for old, new in RENAMED:
                renamed = renamed.replace(old, new)
            yield renamed, values


if __name__ == "__main__":
    serve(WhisperCpp, ("pywhispercpp",))
