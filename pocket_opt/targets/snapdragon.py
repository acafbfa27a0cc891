"""NPUs of Qualcomm's Snapdragon chips (HTP, Hexagon Tensor Processor) through ONNX Runtime's QNN provider.

Graphs have static shapes and become context binaries: programs of the NPU, made here by Qualcomm's compiler and run
here in its simulator. The NPU computes floats in 16 bits, whatever the file holds; those before v69 compute none. The
host's CPU computes the mel front end and the choice of tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pocket_opt.config.schema import Decoder, Intents, Soc
from pocket_opt.errors import UserError
from pocket_opt.targets.base import Architecture, Package, Step, not_of_any

INSTALL = "pip install 'pocket_opt[snapdragon]'"
FIRST_WITH_FLOATS = 69
"""Generation of the NPU; below, Qualcomm's compiler takes quantized graphs only."""

WEIGHT_BITS = {"int8": 8, "int4": 4}
KEPT_AT_8 = ["encoder.*_proj", "proj_out"]
"""Where 4 bits cost most for their size: with the encoder's attention in 8 bits the sample's student has a WER of 5.4 %
instead of 6.6 %, at 0.1 MB more. The user's own overrides come after these."""
STATIC = ("static", "kv_cache")
"""Decoders that are taken: with a cache, whose length is fixed here."""


class Snapdragon:
    """See Target; `soc` is the chip."""

    verified = "simulator"
    packages: tuple[Package, ...] = (
        Package("onnxruntime-qnn", INSTALL),
        Package("onnxruntime", "pip install onnxruntime"),
        Package("onnx", "pip install onnx"),
    )
    layouts: tuple[str, ...] = ("android",)
    probe_task = "pocket_opt.runtimes.qnn:probe"

    def __init__(self, name: str, soc: Soc) -> None:
        self.name, self.soc = name, soc

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Export with static shapes, quantize, compile."""
        bits = WEIGHT_BITS.get(intents.weights)
        compile_ = Step(
            "compile",
            "compile_qnn",
            why=f"context binaries for {self.soc.chip}, HTP v{self.soc.htp_arch}",
        )
        steps = [
            Step(
                "export",
                "export_onnx",
                {"decoder": "static", "prefill": decoder.prefill},
                "the NPU takes fixed shapes only",
            ),
            Step(
                "qdq",
                "quantize_qdq",
                self._quantization(bits or 8),
                f"16-bit activations, {bits}-bit weights, calibrated on audio",
                off="" if bits else "this level asks for no integer weights",
            ),
            compile_,
        ]
        if intents.format == "source":
            return [
                replace(step, off="this level keeps the source model in its own framework") for step in steps
            ]
        self._check(intents, decoder)
        return steps

    def _quantization(self, bits: int) -> dict[str, Any]:
        """Tables have 8 bits, which cost no text; with 4-bit weights caches, too: half of what each token moves."""
        small = {"caches": 8, "kept": KEPT_AT_8} if bits == 4 else {}
        old = {"norms": 8} if self.soc.htp_arch < FIRST_WITH_FLOATS else {}
        return {"weights": bits, "embedding": 8, **small, **old}

    def _check(self, intents: Intents, decoder: Decoder) -> None:
        if decoder.name not in STATIC:
            raise UserError(
                f"the NPU takes fixed shapes only, and decoder={decoder.name} has others",
                where=f"decoder={decoder.name}",
                allowed="static, which is what kv_cache means here",
                fix="leave decoder out, or choose target=cpu",
            )
        if intents.weights not in WEIGHT_BITS and self.soc.htp_arch < FIRST_WITH_FLOATS:
            raise UserError(
                f"the NPU of {self.soc.chip} (HTP v{self.soc.htp_arch}) computes no floats",
                where=f"target={self.name}, level.intents.weights={intents.weights}",
                allowed="int8 or int4 weights, or a chip from HTP v69 on",
                fix="choose level=HIGH",
            )

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: Optimum's graphs have symbolic shapes."""
        raise not_of_any(self.name)
