"""Any 64-bit CPU through ONNX Runtime.

INT8 is dynamic for the encoder (large matrix products, where integer arithmetic pays) and weight-only for the
decoder (one token at a time, where reading the weights is the cost). FP16 is stored, not computed: the casts are folded
at load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Package, Step


class Cpu:
    """See Target."""

    name = "cpu"
    verified = "native"
    packages = (Package("onnxruntime", "pip install onnxruntime"), Package("onnx", "pip install onnx"))
    probe_task = "pocket_opt.runtimes.onnxruntime:probe"

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Export, fuse, quantize, store the rest in 16 bits."""
        steps = self._steps(intents, decoder)
        if intents.format == "source":
            return [
                replace(step, off="this level keeps the source model in its own framework") for step in steps
            ]
        return steps

    def _steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        bits = {"int8": 8, "int4": 4}.get(intents.weights)
        return [
            Step("export", "export_onnx", {"decoder": decoder.name}, "ONNX Runtime reads ONNX"),
            _switch(
                Step("fuse", "fuse", why="lossless clean-up and fusion"),
                intents.fusion == "lossless",
                "fusion",
            ),
            *_quantization(bits),
            _switch(
                Step("fp16", "store_fp16", why="what is still 32-bit is stored in 16 bits"),
                "fp16" in (intents.weights, intents.rest),
                "16-bit storage",
            ),
        ]


def _quantization(bits: int | None) -> list[Step]:
    """The encoder keeps 8 bits also at EXTREME: its activations are quantized too, and it is more sensitive."""
    weights = f"{bits}-bit weights"
    steps = [
        _part("encoder_int8", "dynamic_int8", {"components": ["encoder"]}, "integer matrix products"),
        _part("decoder_weights", "weight_only", {"components": ["decoder"], "bits": bits or 8}, weights),
        _part("embedding", "quantize_embedding", {}, "the token embedding, shared with the output head"),
    ]
    return [_switch(step, bits is not None, "integer weights") for step in steps]


def _part(name: str, pass_name: str, params: Mapping[str, Any], why: str) -> Step:
    return Step(name, pass_name, params, why)


def _switch(step: Step, on: bool, what: str) -> Step:
    return step if on else Step(step.name, step.pass_name, step.params, off=f"this level asks for no {what}")


TARGET = Cpu()
