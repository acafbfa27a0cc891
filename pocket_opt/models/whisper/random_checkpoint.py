"""Writes a Whisper checkpoint with random weights: any architecture at its real size, without a download.

Decoding must not be degenerate, or parity on it proves little: with the usual initialisation a tied output head repeats
the token it was given (2 distinct tokens in 30). A token's own embedding wins against the best of all others unless the
rest of the residual stream is several times as large, so positions and layers get the gains below: 23 to 30 distinct
tokens in 30 at 2, 4 and 12 decoder layers, and other tokens for other audio. Biases are random, too: a kernel that
mishandles one must show it.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pocket_opt.models.layout import CONFIG, GENERATION_CONFIG, WEIGHTS
from pocket_opt.models.whisper.checkpoint import FloatArray, Spec, WhisperDims, state_dict_specs
from pocket_opt.models.whisper.generation import generation_config
from pocket_opt.models.whisper.processor_files import write_processor
from pocket_opt.models.whisper.vocabulary import END_OF_TEXT, START_OF_TRANSCRIPT, Vocabulary
from pocket_opt.onnx_graphs.sinusoids import sinusoids

LOGIT_STD = 4.0
"""Spread of the logits of text tokens; that of a trained model is of this order."""

POSITION_GAIN, LAYER_GAIN, SCORE_GAIN = 16.0, 4.0, 2.5
"""Size of positions and of a layer's outputs over a token's embedding; of queries and keys over their input (sharp
attention, so that the audio matters)."""

QUIET = 0.25
"""Size of the embeddings of control and timestamp tokens: a trained model rarely emits one unasked."""

NORM_STD, BIAS_STD = 0.1, 0.05


def write_random_checkpoint(
    directory: Path, dims: WhisperDims, vocabulary: Vocabulary, *, seed: int
) -> tuple[str, ...]:
    """Write weights (fp32), configuration and processor into `directory`; returns the processor's file names."""
    files = write_processor(directory, dims, vocabulary)
    _write_json(directory / CONFIG, model_config(dims, vocabulary))
    _write_json(directory / GENERATION_CONFIG, generation_config(vocabulary, dims))
    _write_weights(directory / WEIGHTS, dims, vocabulary.words, seed)
    return files


def model_config(dims: WhisperDims, vocabulary: Vocabulary) -> dict[str, Any]:
    """The table of `config.json`."""
    end = vocabulary.id(END_OF_TEXT)
    return {
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "bos_token_id": end,
        "d_model": dims.d_model,
        "decoder_attention_heads": dims.decoder_heads,
        "decoder_ffn_dim": dims.decoder_ffn_dim,
        "decoder_layers": dims.decoder_layers,
        "decoder_start_token_id": vocabulary.id(START_OF_TRANSCRIPT),
        "encoder_attention_heads": dims.encoder_heads,
        "encoder_ffn_dim": dims.encoder_ffn_dim,
        "encoder_layers": dims.encoder_layers,
        "eos_token_id": end,
        "is_encoder_decoder": True,
        "max_source_positions": dims.source_positions,
        "max_target_positions": dims.target_positions,
        "model_type": "whisper",
        "num_hidden_layers": dims.encoder_layers,
        "num_mel_bins": dims.mels,
        "pad_token_id": end,
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": dims.vocab,
    }


def random_tensor(spec: Spec, dims: WhisperDims, words: int, seed: int) -> FloatArray:
    """The tensor of `spec`, which depends on the arguments only; `words` tokens come before `<|endoftext|>`."""
    name, shape = spec
    if name == "model.encoder.embed_positions.weight":
        return sinusoids(*shape)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    module, leaf = name.rsplit(".", 2)[-2:]
    if module.endswith("layer_norm"):
        return np.float32(leaf == "weight") + values * np.float32(NORM_STD)
    values *= np.float32(BIAS_STD if leaf == "bias" else _weight_std(module, shape, dims))
    if module == "embed_tokens":
        values[words + 1 :] *= np.float32(QUIET)
    return values


def _weight_std(module: str, shape: tuple[int, ...], dims: WhisperDims) -> float:
    token_std = LOGIT_STD / math.sqrt(dims.d_model)
    if module == "embed_tokens":
        return token_std
    if module == "embed_positions":
        return token_std * POSITION_GAIN
    gain = 1.0
    if module in {"q_proj", "k_proj"}:
        gain = SCORE_GAIN
    if module in {"out_proj", "fc2"}:
        # Deeper decoders would otherwise drown the positions in the sum of their layers.
        gain = token_std * LAYER_GAIN * min(1.0, math.sqrt(4 / dims.decoder_layers))
    return gain / math.sqrt(math.prod(shape[1:]))


def _write_weights(path: Path, dims: WhisperDims, words: int, seed: int) -> None:
    """One safetensors file, one tensor in memory at a time (format: https://huggingface.co/docs/safetensors)."""
    specs = list(state_dict_specs(dims))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in specs:
        end = offset + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for spec in specs:
            file.write(random_tensor(spec, dims, words, seed).tobytes())


def _write_json(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
