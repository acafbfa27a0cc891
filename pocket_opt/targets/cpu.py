"""Any 64-bit CPU through ONNX Runtime.

INT8 is dynamic for the encoder (large matrix products, where integer arithmetic pays) and weight-only for the decoder
(one token at a time, where reading the weights is the cost). INT4 is weight-only in the decoder and its embedding; in
the encoder only the storage has 4 bits, for products with such weights are slower than fp32 (1.5 times on AVX2). FP16
is stored, not computed: the casts are folded at load, so it comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Architecture, Package, Step, check_prefill, unless_source

WEIGHT_BITS = {"int8": 8, "int4": 4}
FUSED_AS = {
    "bert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
    "camembert": "bert",
    "distilbert": "bert",
}
"""Model type -> whose patterns ONNX Runtime's optimizer finds in it. Others are asked for by name, see the pass."""
EVERY = {"components": ["*"]}


class Cpu:
    """See Target."""

    name = "cpu"
    verified = "native"
    packages = (Package("onnxruntime", "pip install onnxruntime"), Package("onnx", "pip install onnx"))
    layouts: tuple[str, ...] = ("optimum", "transformers_js", "sherpa_onnx", "genai", "android")
    probe_task = "pocket_opt.runtimes.onnxruntime:probe"

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Export, fuse, quantize, store the rest in 16 bits."""
        one_file = decoder.name == "all_in_one"
        steps = [
            Step(
                "export",
                "export_onnx",
                {"decoder": "kv_cache" if one_file else decoder.name, "prefill": decoder.prefill},
                "ONNX Runtime reads ONNX",
            ),
            _switch(
                Step("fuse", "fuse", why="lossless clean-up and fusion"),
                intents.fusion == "lossless",
                "fusion",
            ),
            *_quantization(intents),
            _half(intents, {}),
        ]
        if one_file:
            why = (
                "one file from samples to text"
                if decoder.audio == "samples"
                else "one file from audio files to text"
            )
            steps.append(Step("compose", "compose_all_in_one", {"audio": decoder.audio}, why))
        if decoder.name != "static":
            check_prefill(decoder)
        elif decoder.prefill:
            steps = [_with_prefill(step) for step in steps]
        return unless_source(intents, steps)

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:
        """Export by Optimum, fuse by ONNX Runtime's patterns, quantize all graphs alike, store the rest in 16 bits."""
        patterns, bits = FUSED_AS.get(architecture.model_type), WEIGHT_BITS.get(intents.weights)
        dynamic = bits == 8 and intents.activations == "dynamic" and not architecture.speaks
        fuse = Step(
            "fuse",
            "ort_transformers_optimizer",
            {"model_type": patterns, "packed_attention": False} if patterns else {},
            "ONNX Runtime's own patterns",
            off=f"no patterns are known to fit '{architecture.model_type}'; nodes.fuse.pass=ort_transformers_optimizer "
            "nodes.fuse.after=export nodes.fuse.params.model_type=TYPE tries some"
            if not patterns
            else "",
        )
        return unless_source(
            intents,
            [
                Step("export", "optimum_export", {"merged": False}, "any architecture that Optimum supports"),
                fuse if not patterns else _switch(fuse, intents.fusion == "lossless", "fusion"),
                _switch(
                    Step("int8", "dynamic_int8", {**EVERY, "reduce_range": True}, "integer matrix products"),
                    dynamic,
                    "integer products for a model of this kind",
                ),
                _switch(
                    Step(
                        "weights",
                        "weight_only",
                        {**_weight_params(bits or 8, dynamic=False), **EVERY},
                        f"{bits}-bit weights",
                    ),
                    bits is not None and not dynamic,
                    "integer weights alone",
                ),
                _half(intents, EVERY),
            ],
        )


def _with_prefill(step: Step) -> Step:
    """The step, doing to `prefill` what it does to `decoder`: they are one decoder for two numbers of tokens."""
    components = step.params.get("components", ["encoder", "decoder"])
    if step.name == "export" or "decoder" not in components:
        return step
    return replace(step, params={**step.params, "components": [*components, "prefill"]})


def _half(intents: Intents, params: Mapping[str, Any]) -> Step:
    """What is left in 32 bits is stored in 16."""
    step = Step("fp16", "store_fp16", params, "what is still 32-bit is stored in 16 bits")
    return _switch(step, "fp16" in (intents.weights, intents.rest), "16-bit storage")


def _quantization(intents: Intents) -> list[Step]:
    """The quantizers of the encoder, of the weights and of the embedding."""
    bits = WEIGHT_BITS.get(intents.weights)
    dynamic = bits is not None and intents.activations == "dynamic"
    encoder = Step(
        "encoder_int8",
        "dynamic_int8",
        {"components": ["encoder"], "reduce_range": True, "bits": bits or 8},
        "integer matrix products in the encoder; 7 bits keep x86 without VNNI exact and fast",
    )
    weights = Step(
        "weights",
        "weight_only",
        _weight_params(bits or 8, dynamic=dynamic),
        f"{bits}-bit weights, read for every token",
    )
    embedding = Step(
        "embedding",
        "quantize_embedding",
        {"components": ["decoder"], **({"bits": 4, "algorithm": "k_quant"} if bits == 4 else {})},
        "the token embedding, shared with the output head",
    )
    return [
        _switch(encoder, dynamic, "8-bit weights with dynamic activations"),
        _switch(weights, bits is not None, "integer weights"),
        _switch(embedding, bits is not None, "integer weights"),
    ]


def _weight_params(bits: int, *, dynamic: bool) -> dict[str, Any]:
    """4 bits need zero points and fitted scales to hold; 8 bits do not."""
    components = ["decoder"] if dynamic else ["encoder", "decoder"]
    fitted = {"symmetric": False, "algorithm": "k_quant"} if bits == 4 else {}
    return {"components": components, "bits": bits, **fitted}


def _switch(step: Step, on: bool, what: str) -> Step:
    return step if on else Step(step.name, step.pass_name, step.params, off=f"this level asks for no {what}")


TARGET = Cpu()
