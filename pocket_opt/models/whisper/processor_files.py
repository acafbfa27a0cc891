"""Writes the files that a Hugging Face Whisper processor is loaded from, for a model that has none.

The tokenizer is a real byte-level BPE of exactly the vocabulary's size whose words are invented (`aaa`, `aab`, ...):
text comes out as it went in, special tokens and timestamps have their places, no published vocabulary is needed.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocket_opt.models.layout import (
    ADDED_TOKENS,
    FEATURE_EXTRACTOR,
    MERGES,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
)
from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, WhisperDims
from pocket_opt.models.whisper.tokenizer_file import build_tokenizer
from pocket_opt.models.whisper.vocabulary import END_OF_TEXT, SPACE_ID, Vocabulary, byte_characters


def write_processor(directory: Path, dims: WhisperDims, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Write tokenizer and feature extractor of a model with invented words; returns the file names."""
    words, merges = _words(vocabulary)
    vocab = {token: index for index, token in enumerate(words)}
    added = {
        token: len(words) + index for index, token in enumerate(vocabulary.special + vocabulary.timestamps)
    }
    tables = {
        TOKENIZER: build_tokenizer(vocab, merges, added),
        TOKENIZER_CONFIG: _tokenizer_config(dims, vocabulary),
        FEATURE_EXTRACTOR: feature_extractor_config(dims),
        VOCAB: vocab,
        ADDED_TOKENS: added,
    }
    for name, table in tables.items():
        _write(directory / name, table)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (directory / MERGES).write_text("\n".join(lines), encoding="utf-8")
    return (*tables, MERGES)


def feature_extractor_config(dims: WhisperDims) -> dict[str, Any]:
    """The keys of `preprocessor_config.json`."""
    return {
        "chunk_length": dims.window_s,
        "dither": 0.0,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": dims.mels,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": dims.samples,
        "nb_max_frames": dims.frames,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": SAMPLE_RATE,
    }


def _words(vocabulary: Vocabulary) -> tuple[list[str], list[tuple[str, str]]]:
    """Byte tokens, then invented words with the merges that build each from a shorter one."""
    alphabet = list(byte_characters())
    space = alphabet[SPACE_ID]
    words = list(itertools.islice(_spellings(), vocabulary.words - len(alphabet)))
    merges = [((space + word[:-1]), word[-1]) for word in words]
    return alphabet + [space + word for word in words], merges


def _spellings() -> Iterator[str]:
    """a, b, ... z, aa, ab, ..."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)


def _tokenizer_config(dims: WhisperDims, vocabulary: Vocabulary) -> dict[str, Any]:
    end = END_OF_TEXT
    return {
        "add_prefix_space": False,
        "additional_special_tokens": list(vocabulary.special[1:]),
        "bos_token": end,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "errors": "replace",
        "model_max_length": dims.target_positions,
        "pad_token": end,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "tokenizer_class": "WhisperTokenizer",
        "unk_token": end,
    }


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
