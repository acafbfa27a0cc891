"""The source artifact: a checkpoint directory that `transformers` loads as it is, described as components."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import UserError
from pocket_opt.models.whisper.checkpoint import CONFIG, SAMPLE_RATE, WEIGHTS, WhisperDims, weight_files
from pocket_opt.models.whisper.processor_files import PROCESSOR_FILES

GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"
FEATURE_EXTRACTOR = "preprocessor_config.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


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
    path = directory / TOKENIZER
    if not path.is_file():
        raise UserError(
            f"the checkpoint lacks {TOKENIZER}",
            where=str(directory),
            fix="save the tokenizer again: WhisperTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    largest = _largest_id(path)
    if largest >= dims.vocab:
        raise UserError(
            f"the tokenizer has the id {largest}, but the model knows {dims.vocab} tokens",
            where=str(path),
            fix="use the tokenizer that belongs to the weights",
        )
    if (directory / FEATURE_EXTRACTOR).is_file():
        _check_features(directory / FEATURE_EXTRACTOR, dims)


def _largest_id(path: Path) -> int:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        added = [token["id"] for token in table.get("added_tokens", ())]
        return max([*table["model"]["vocab"].values(), *added], default=0)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path.name} is damaged or holds no byte-level BPE", where=str(path), fix="download it again"
        ) from error


def _check_features(path: Path, dims: WhisperDims) -> None:
    expected = {
        "feature_size": dims.mels,
        "hop_length": 160,
        "n_fft": 400,
        "sampling_rate": SAMPLE_RATE,
        "chunk_length": dims.window_s,
    }
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key, value in expected.items():
        if found.get(key, value) != value:
            raise UserError(
                f"the feature extractor has {key}={found[key]}",
                where=str(path),
                allowed=f"{key}={value}, which is what the weights expect",
                fix="use the preprocessor_config.json that belongs to the weights",
            )


def pickled_files(directory: Path) -> tuple[Path, ...]:
    """The pickled weights of a checkpoint that has no safetensors; empty if there are none."""
    single, index = (directory / name for name in PICKLES)
    if single.is_file():
        return (single,)
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return tuple(directory / name for name in sorted(set(shards)))
    return ()


def convert_pickles(files: Iterable[Path], workdir: Path) -> None:
    """Write the tensors of pickled weight files as safetensors; only tensors are read, no code is run.

    Raises:
        UserError: a file holds anything but tensors.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        try:
            table: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise UserError(
                f"{path.name} is damaged, or holds more than tensors and would run code when read",
                where=str(path),
                allowed=f"{WEIGHTS}, or a pickle of nothing but tensors",
                fix="convert it to safetensors where you trust it",
            ) from error
        tensors.update(table)
    # The head shares its memory with the token embedding, which safetensors refuses to store twice.
    tensors.pop("proj_out.weight", None)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, workdir / WEIGHTS, {"format": "pt"}
    )
