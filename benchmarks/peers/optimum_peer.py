"""ONNX Runtime through Optimum: its export and its `generate()`, in fp32 or with its dynamic int8 for AVX2.

Optimum's own presets would quantize the convolutions, too, which hurts Whisper: here matrix products and lookups only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from optimum.onnxruntime import AutoQuantizationConfig, ORTModelForSpeechSeq2Seq, ORTQuantizer
from protocol import serve, size_mb
from transformers_peer import generated

GRAPHS = ("encoder_model", "decoder_model_merged")


class Optimum:
    """Whole sequences; its logits can be read along the tokens that it chose."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        folder = Path(job["work"]).parent / "optimum-fp32"
        export(job["checkpoint"], folder)
        suffix = ""
        if job["precision"] == "int8":
            suffix = "_quantized"
            for name in GRAPHS:
                quantize(folder, name)
        graphs = [folder / f"{name}{suffix}.onnx" for name in GRAPHS]
        self.size_mb = size_mb(graphs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        self.model = ORTModelForSpeechSeq2Seq.from_pretrained(
            folder,
            encoder_file_name=graphs[0].name,
            decoder_file_name=graphs[1].name,
            session_options=options,
        )

    def encode(self, features: Any) -> None:
        self.model.encoder(torch.from_numpy(features), attention_mask=None)

    def generate(self, features: Any, prompt: list[int], count: int) -> list[int]:
        return generated(self.model, torch.from_numpy(features), prompt, count)

    def evidence(self, features: Any, prompt: list[int], count: int) -> tuple[list[int], Any]:
        tokens = self.generate(features, prompt, count)
        fed = torch.tensor([prompt + tokens[:-1]])
        logits = self.model(input_features=torch.from_numpy(features), decoder_input_ids=fed).logits
        return tokens, np.asarray(logits)[0, len(prompt) - 1 :]


def export(checkpoint: str, folder: Path) -> None:
    """Write the ONNX graphs, once."""
    if not (folder / "decoder_model_merged.onnx").is_file():
        tool = str(Path(sys.executable).with_name("optimum-cli"))
        task = ["--task", "automatic-speech-recognition-with-past"]
        subprocess.run(
            [tool, "export", "onnx", "-m", checkpoint, *task, str(folder)], check=True, stdout=sys.stderr
        )


def quantize(folder: Path, name: str) -> None:
    """Write `<name>_quantized.onnx`, once."""
    if not (folder / f"{name}_quantized.onnx").is_file():
        config = AutoQuantizationConfig.avx2(
            is_static=False, per_channel=True, operators_to_quantize=["MatMul", "Gather"]
        )
        ORTQuantizer.from_pretrained(folder, file_name=f"{name}.onnx").quantize(config, folder)


if __name__ == "__main__":
    serve(Optimum, ("optimum-onnx", "optimum", "transformers", "onnxruntime"))
