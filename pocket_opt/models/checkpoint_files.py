"""The files of a checkpoint, brought into an artifact: linked where they are safe, converted where they are pickled."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.artifact import link_file
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.models import layout
from pocket_opt.models.sources import content_digest

if TYPE_CHECKING:
    import torch


def require_unchanged(directory: Path, digest: str) -> None:
    """Raise PocketOptError if the content of `directory` is not that of `digest`; nothing where that is empty."""
    if digest and content_digest(directory) != digest:
        raise PocketOptError(
            "the model's files changed after they were planned with", where=str(directory), fix="run it again"
        )


def bring_checkpoint(directory: Path, workdir: Path, *, without: Collection[str] = ()) -> bool:
    """Link the model's files into `workdir`, pickled weights as safetensors; whether they were pickled.

    Args:
        without: tensors that a conversion leaves out, because the model derives them from others.

    Raises:
        UserError: a pickle holds anything but tensors.
    """
    weights = layout.weight_files(directory)
    pickled = weights[0] in layout.PICKLES
    for name in layout.model_files(directory):
        if not (pickled and name in weights):
            link_file(directory / name, workdir / name)
    if pickled:
        files = [directory / name for name in weights if name not in layout.INDEXES]
        _convert_pickles(files, workdir, without)
    return pickled


def _convert_pickles(files: Iterable[Path], workdir: Path, without: Collection[str]) -> None:
    """Write the tensors of pickled weight files as safetensors; only tensors are read, no code is run."""
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
                allowed=f"{layout.WEIGHTS}, or a pickle of nothing but tensors",
                fix="convert it to safetensors where you trust it",
            ) from error
        tensors.update(table)
    own = {name: tensor for name, tensor in tensors.items() if name not in without}
    save_file(_apart(own), workdir / layout.WEIGHTS, {"format": "pt"})


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, each with memory of its own: safetensors refuses to store what is shared."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return found
