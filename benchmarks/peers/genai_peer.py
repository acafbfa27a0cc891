"""onnxruntime-genai over the model that its own builder writes; precision fp32, int8 or int4.

Its first call runs encoder and prompt together; the encoder's share is timed in an ONNX Runtime session of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime_genai as genai
from protocol import run_stepwise, serve, size_mb


class GenAi:
    """A generator of onnxruntime-genai that is fed tokens, and the encoder alone."""

    def __init__(self, job: dict[str, Any]) -> None:
        folder = Path(job["work"]) / "model"
        if not folder.is_dir():
            options = ["-m", job["checkpoint"], "-o", str(folder), "-p", job["precision"], "-e", "cpu"]
            command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *options]
            subprocess.run([*command, "-c", job["work"]], check=True, stdout=sys.stderr)
        self.size_mb = size_mb(sorted(folder.glob("*.onnx*")))
        settings = {"session_options": {"intra_op_num_threads": job["threads"]}}
        config = genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"encoder": settings, "decoder": settings}}))
        self.model = genai.Model(config)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        self.encoder = onnxruntime.InferenceSession(folder / "encoder.onnx", options)

    def run(self, features: Any, prompt: list[int], forced: list[int]) -> dict[str, Any]:
        began = time.perf_counter()
        self.encoder.run(None, {"audio_features": features})
        encoder = time.perf_counter() - began
        times = run_stepwise(self, features, prompt, forced)
        return {**times, "encoder_s": encoder, "first_s": times["encoder_s"] + times["first_s"] - encoder}

    def encode(self, features: Any) -> None:
        parameters = genai.GeneratorParams(self.model)
        parameters.set_search_options(max_length=448, do_sample=False)
        self.generator = genai.Generator(self.model, parameters)
        self.generator.set_model_input("audio_features", features)

    def decode(self, tokens: list[int]) -> Any:
        self.generator.append_tokens(np.array(tokens, np.int32))
        return self.generator.get_logits()[0, -1]


if __name__ == "__main__":
    serve(GenAi, ("onnxruntime-genai", "onnxruntime"))
