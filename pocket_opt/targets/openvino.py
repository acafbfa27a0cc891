"""64-bit x86 and ARM CPUs through OpenVINO.

Integers are weight-only for encoder and decoder: the plugin computes in floating point, or quantizes activations itself
where the processor has instructions for it. Embedding and output head share one 8-bit table also where the rest has 4
bits. FP16 is stored, not computed, so it comes last.
"""

from __future__ import annotations

from dataclasses import replace

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Architecture, Package, Step, check_decoder, not_of_any, unless_source

WEIGHT_BITS = {"int8": 8, "int4": 4}
INSTALL = "pip install 'pocket_opt[openvino]'"

ELSEWHERE = {
    "static": "a decoder with static shapes is the source of NPU targets; OpenVINO's caches grow",
    "all_in_one": "the loop, the rules and the text of a single file are operators that ONNX Runtime runs",
}
"""Decoders of other targets, and why."""


class OpenVino:
    """See Target."""

    name = "openvino"
    verified = "native"
    packages = (Package("openvino", INSTALL), Package("nncf", INSTALL), Package("onnx", "pip install onnx"))
    layouts: tuple[str, ...] = ()
    probe_task = "pocket_opt.runtimes.openvino:probe"

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Export, convert, compress the weights, store the rest in 16 bits."""
        check_decoder(decoder, intents, ELSEWHERE, "kv_cache, basic")
        bits = WEIGHT_BITS.get(intents.weights)
        half = "fp16" in (intents.weights, intents.rest)
        compression = Step(
            "weights",
            "compress_weights_openvino",
            {"bits": bits or 8},
            f"{bits}-bit weights, read for every token",
        )
        fp16 = Step("fp16", "store_fp16_openvino", why="what is still 32-bit is stored in 16 bits")
        steps = [
            Step("export", "export_onnx", {"decoder": decoder.name}, "OpenVINO reads ONNX"),
            Step("convert", "convert_openvino", {}, "caches as states, attention as its plugin likes it"),
            compression if bits else replace(compression, off="this level asks for no integer weights"),
            fp16 if half else replace(fp16, off="this level asks for no 16-bit storage"),
        ]
        return unless_source(intents, steps)

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: Optimum's graphs are not converted here."""
        raise not_of_any(self.name)


TARGET = OpenVino()
