"""A Whisper checkpoint as a PyTorch model, and back: what passes before the export read and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import WhisperForConditionalGeneration

from pocket_opt.artifact import Artifact, Component, link_file
from pocket_opt.models.layout import CONFIG, GENERATION_CONFIG, WEIGHTS

TIED_HEAD = "proj_out.weight"
"""Shares its memory with the token embedding; safetensors refuse to store it twice."""


def load_model(root: Path) -> Any:
    """The checkpoint in `root` as a model in fp32 on the CPU, ready to compute."""
    model: Any = WhisperForConditionalGeneration.from_pretrained(
        root, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return model.eval()


def write_checkpoint(model: Any, source: Artifact, workdir: Path, **metadata: Any) -> Artifact:
    """Write `model`'s weights into `workdir` beside the other files of `source`; fp32, one file."""
    carried = source.carry(workdir, without=("model",))
    for name in (CONFIG, GENERATION_CONFIG):
        link_file(source.file("model", name), workdir / name)
    tensors = {
        name: tensor.detach().to(torch.float32).contiguous()
        for name, tensor in model.state_dict().items()
        if name != TIED_HEAD
    }
    save_file(tensors, workdir / WEIGHTS, {"format": "pt"})
    part = Component("transformers", (WEIGHTS, CONFIG, GENERATION_CONFIG))
    return carried.with_component("model", part, **metadata)
