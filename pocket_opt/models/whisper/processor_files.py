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

from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, WhisperDims
from pocket_opt.models.whisper.vocabulary import (
    END_OF_TEXT,
    SPACE_ID,
    START_OF_TRANSCRIPT,
    TASKS,
    Vocabulary,
    byte_characters,
)

PROCESSOR_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "normalizer.json",
)
"""What may belong to a processor; the first three are needed."""

REQUIRED_PROCESSOR_FILES = PROCESSOR_FILES[:3]


def write_processor(directory: Path, dims: WhisperDims, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Write tokenizer and feature extractor of a model with invented words; returns the file names."""
    words, merges = _words(vocabulary)
    vocab = {token: index for index, token in enumerate(words)}
    added = {
        token: len(words) + index for index, token in enumerate(vocabulary.special + vocabulary.timestamps)
    }
    _write(directory / "tokenizer.json", _tokenizer(vocab, merges, vocabulary))
    _write(directory / "tokenizer_config.json", _tokenizer_config(dims, vocabulary))
    _write(directory / "preprocessor_config.json", feature_extractor_config(dims))
    _write(directory / "vocab.json", vocab)
    _write(directory / "added_tokens.json", added)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return (*REQUIRED_PROCESSOR_FILES, "vocab.json", "merges.txt", "added_tokens.json")


def generation_config(vocabulary: Vocabulary, dims: WhisperDims) -> dict[str, Any]:
    """The table of `generation_config.json`: the decoding rules that follow from the vocabulary's order."""
    start, end = vocabulary.id(START_OF_TRANSCRIPT), vocabulary.id(END_OF_TEXT)
    control = (*(f"<|{task}|>" for task in TASKS), "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")
    config: dict[str, Any] = {
        "begin_suppress_tokens": [SPACE_ID, end],
        "bos_token_id": end,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "is_multilingual": vocabulary.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": dims.target_positions,
        "no_timestamps_token_id": vocabulary.id("<|notimestamps|>"),
        "pad_token_id": end,
        "prev_sot_token_id": vocabulary.id("<|startofprev|>"),
        "return_timestamps": False,
        "suppress_tokens": [start, *(vocabulary.id(token) for token in control)],
    }
    if vocabulary.multilingual:
        tags = [f"<|{name}|>" for name in vocabulary.languages]
        config["lang_to_id"] = {tag: vocabulary.id(tag) for tag in tags}
        config["task_to_id"] = {task: vocabulary.id(f"<|{task}|>") for task in TASKS}
    return config


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


def _tokenizer(
    vocab: dict[str, int], merges: list[tuple[str, str]], vocabulary: Vocabulary
) -> dict[str, Any]:
    """The table of `tokenizer.json`, made by the library that will read it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in vocabulary.special]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False, special=False) for token in vocabulary.timestamps]
    )
    table: dict[str, Any] = json.loads(tokenizer.to_str())
    return table


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
