"""The source artifact: a checkpoint directory that `transformers` loads as it is, described as components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import UserError
from pocket_opt.models.layout import (
    CONFIG,
    FEATURE_EXTRACTOR,
    GENERATION_CONFIG,
    PROCESSOR_FILES,
    TOKENIZER,
    read_table,
    weight_files,
)
from pocket_opt.models.whisper.checkpoint import SAMPLE_RATE, WhisperDims
from pocket_opt.models.whisper.tokenizer_file import tokenizer_table
from pocket_opt.models.whisper.vocabulary import read_vocabulary


def source_artifact(root: Path, dims: WhisperDims, *, weights: str) -> Artifact:
    """Describe the checkpoint in `root`; `weights` is "pretrained" or "random"."""
    processor = tuple(name for name in PROCESSOR_FILES if (root / name).is_file())
    return Artifact(
        root,
        {
            "model": Component("transformers", (*weight_files(root), CONFIG, GENERATION_CONFIG)),
            "processor": Component("processor", processor),
        },
        {"family": "whisper", "runtime": "transformers", "weights": weights, "dims": dims.metadata()},
    )


def check_processor(directory: Path, dims: WhisperDims) -> None:
    """UserError unless the tokenizer's ids fit the model and features are computed as the graphs here do."""
    where = str(directory / TOKENIZER)
    table = tokenizer_table(directory)
    largest = _largest_id(table, where)
    if largest >= dims.vocab:
        raise UserError(
            f"the tokenizer has the id {largest}, but the model knows {dims.vocab} tokens",
            where=where,
            fix="use the tokenizer that belongs to the weights",
        )
    read_vocabulary(table, dims.window_s, where=where)
    if (directory / FEATURE_EXTRACTOR).is_file():
        _check_features(directory / FEATURE_EXTRACTOR, dims)


def _largest_id(table: Mapping[str, Any], where: str) -> int:
    try:
        added = [token["id"] for token in table.get("added_tokens", ())]
        return max([*table["model"]["vocab"].values(), *added], default=0)
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{TOKENIZER} is damaged or holds no byte-level BPE", where=where, fix="download it again"
        ) from error


def _check_features(path: Path, dims: WhisperDims) -> None:
    expected = {
        "feature_size": dims.mels,
        "hop_length": 160,
        "n_fft": 400,
        "sampling_rate": SAMPLE_RATE,
        "chunk_length": dims.window_s,
    }
    found = read_table(path)
    for key, value in expected.items():
        if found.get(key, value) != value:
            raise UserError(
                f"the feature extractor has {key}={found[key]}",
                where=str(path),
                allowed=f"{key}={value}, which is what the weights expect",
                fix="use the preprocessor_config.json that belongs to the weights",
            )
