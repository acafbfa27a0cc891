"""The source model in PyTorch through transformers, asked for what each of Optimum's graphs computes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from .opening import Arrays, RequestError

WHOLE, ENCODER, DECODER = "model", "encoder_model", "decoder_model"
GRAPHS = (WHOLE, ENCODER, DECODER)
"""The graphs whose outputs the model itself has; those that continue a cache, or are one part of many, it has not."""
PAST = "past_key_values"


class SourceModel:
    """The checkpoint in `directory`, fp32 on the CPU; `threads` 0 leaves their number to PyTorch.

    Attributes:
        load_seconds: time that opening took.
    """

    def __init__(self, directory: Path, *, threads: int = 0) -> None:
        began = time.perf_counter()
        import torch
        import transformers

        if threads:
            torch.set_num_threads(threads)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        kind: Any = getattr(transformers, config["architectures"][0], None)
        is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
        if not is_model:
            raise RequestError(f"{directory}: transformers has no model class {config['architectures'][0]!r}")
        self._model = kind.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        self.load_seconds = time.perf_counter() - began

    def run(self, graph: str, inputs: Arrays) -> dict[str, Any]:
        """The outputs of one graph by name, from an empty cache; RequestError for one that the model has not."""
        import torch

        if graph not in GRAPHS:
            raise RequestError(f"the source model has no graph '{graph}' (it has: {', '.join(GRAPHS)})")
        tensors = {
            name: torch.from_numpy(array) for name, array in inputs.items() if not name.startswith(PAST)
        }
        with torch.no_grad():
            answer = self._answer(graph, tensors)
        return {name: value.numpy() for name, value in answer.items() if isinstance(value, torch.Tensor)}

    def _answer(self, graph: str, tensors: dict[str, Any]) -> Any:
        if graph == ENCODER:
            return self._model.get_encoder()(**tensors)
        if graph == WHOLE:
            return self._model(**tensors)
        from transformers.modeling_outputs import BaseModelOutput

        return self._model(
            decoder_input_ids=tensors["input_ids"],
            attention_mask=tensors.get("encoder_attention_mask"),
            encoder_outputs=BaseModelOutput(tensors["encoder_hidden_states"]),
        )
