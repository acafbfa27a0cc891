"""Which files of a directory in the Hugging Face layout make up a model, and its tables read with clear errors.

Planning asks this of every model, so nothing heavy is imported.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pocket_opt.errors import UserError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
FEATURE_EXTRACTOR = "preprocessor_config.json"
VOCAB, MERGES, ADDED_TOKENS = "vocab.json", "merges.txt", "added_tokens.json"
PROCESSOR_FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    FEATURE_EXTRACTOR,
    VOCAB,
    MERGES,
    ADDED_TOKENS,
    "special_tokens_map.json",
    "normalizer.json",
)
"""What may belong to a processor."""
OTHER_PROCESSORS = (
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "processor_config.json",
    "chat_template.jinja",
)
"""What belongs to the processors of other architectures than Whisper."""
TABLES = (CONFIG, GENERATION_CONFIG, *PROCESSOR_FILES, *OTHER_PROCESSORS)
"""What may belong to a model beside its weights."""

WEIGHTS, INDEX = SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLE, PICKLE_INDEX = PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
INDEXES = (INDEX, PICKLE_INDEX)


def weight_files(directory: Path, names: Collection[str] | None = None) -> tuple[str, ...]:
    """Names of the files that hold the weights, the one to open first: a file, or an index and its shards.

    A directory may hold the same weights several times; safetensors are preferred to pickles, one file to many.

    Args:
        names: the files that can be had, where they are not those of `directory` (which holds the indexes).

    Raises:
        UserError: there are no weights, an index is damaged, or a shard is missing.
    """
    present = {entry.name for entry in directory.iterdir() if entry.is_file()} if names is None else names
    first = next((name for name in (*SAFETENSORS, *PICKLES) if name in present), None)
    if first is None:
        raise UserError(
            "the model holds no weights",
            where=str(directory),
            allowed=f"{WEIGHTS} or {PICKLE}, each also as an index with shards",
            fix="download the model again, or choose another",
        )
    files = (first, *(_shards(directory / first) if first in INDEXES else ()))
    missing = [name for name in files if name not in present]
    if missing:
        raise UserError(
            f"the model lacks {', '.join(missing)}",
            where=str(directory),
            allowed=f"every file that {first} names",
            fix="download the model again",
        )
    return files


def model_files(directory: Path) -> tuple[str, ...]:
    """Names of the files that make up the model: its weights, and what there is of configuration and processor."""
    return (*weight_files(directory), *(name for name in TABLES if (directory / name).is_file()))


def read_table(path: Path) -> dict[str, Any]:
    """The JSON table in `path`; UserError if it cannot be read or holds none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(error, path) from error
    except ValueError as error:
        raise UserError(
            f"{path.name} is damaged: it is not valid JSON ({error})",
            where=str(path),
            fix="download the model again",
        ) from error
    if not isinstance(table, dict):
        raise UserError(
            f"{path.name} is damaged: it does not hold a table",
            where=str(path),
            fix="download the model again",
        )
    return table


def unreadable(error: OSError, path: Path) -> UserError:
    """The error for a file of the model that cannot be read."""
    return UserError(
        f"{path.name} cannot be read ({error.strerror or error})",
        where=str(path),
        fix="make it a file that you may read, or download the model again",
    )


def _shards(index: Path) -> list[str]:
    files = read_table(index).get("weight_map")
    if (
        not isinstance(files, dict)
        or not files
        or any(Path(str(name)).name != name for name in files.values())
    ):
        raise UserError(
            f"{index.name} is damaged: its weight_map names no files beside it",
            where=str(index),
            fix="download the model again",
        )
    return sorted(set(files.values()))
