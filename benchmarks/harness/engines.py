"""The engines that can be compared: which adapter runs them, where, and how near to fp32 they must be."""

from __future__ import annotations

from dataclasses import dataclass

GATE_DB = {"fp32": 60.0, "fp16": 40.0, "int8": 17.0, "int4": 8.0}
"""Signal to quantization noise of the logits, in dB, that a precision must keep against fp32.

Exact arithmetic in another order gives about 100 dB, a wrong mask, position or cache 0 dB or less; 17 and 8 dB are
below what 8 and 4 bits cost in the weights of every linear layer, and far above a fault."""

LEVEL_PRECISION = {"NONE": "fp32", "BASIC": "fp32", "MEDIUM": "fp16", "HIGH": "int8", "EXTREME": "int4"}


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    Attributes:
        adapter: program in `benchmarks/peers`.
        environment: name of the requirements file; "" is the environment of pocket_opt.
        setting: what the adapter is told.
        precision: chooses the gate.
        target, level: of one of ours.
    """

    name: str
    adapter: str
    environment: str = ""
    setting: str = ""
    precision: str = "fp32"
    target: str = ""
    level: str = ""


REFERENCE = Engine("transformers-fp32", "transformers_peer.py", "transformers", "generate")
"""What ratios and gates are taken against."""

PEERS = (
    REFERENCE,
    Engine("transformers-fp32-loop", "transformers_peer.py", "transformers", "loop"),
    Engine("optimum-fp32", "optimum_peer.py", "optimum", "fp32"),
    Engine("optimum-int8", "optimum_peer.py", "optimum", "int8", "int8"),
    Engine("ctranslate2-float32", "ctranslate2_peer.py", "ctranslate2", "float32"),
    Engine("ctranslate2-int8", "ctranslate2_peer.py", "ctranslate2", "int8", "int8"),
    Engine("openvino-fp32", "openvino_peer.py", "openvino", "fp32"),
    Engine("openvino-int8", "openvino_peer.py", "openvino", "int8", "int8"),
    Engine("openvino-int8-static", "openvino_peer.py", "openvino", "static", "int8"),
    Engine("openvino-int4", "openvino_peer.py", "openvino", "int4", "int4"),
    Engine("genai-int8", "genai_peer.py", "genai", "int8", "int8"),
    Engine("genai-int4", "genai_peer.py", "genai", "int4", "int4"),
    Engine("whispercpp-q8_0", "whispercpp_peer.py", "whispercpp", "q8_0", "int8"),
    Engine("whispercpp-q4_0", "whispercpp_peer.py", "whispercpp", "q4_0", "int4"),
)
ENVIRONMENTS = tuple(dict.fromkeys(engine.environment for engine in PEERS))
OURS = ("cpu-BASIC", "cpu-MEDIUM", "cpu-HIGH", "cpu-EXTREME")
"""Ours by default; any other target and level is named the same way."""


def engine(name: str) -> Engine:
    """The peer called `name`, or ours for `<target>-<LEVEL>`; ValueError for anything else."""
    for peer in PEERS:
        if peer.name == name:
            return peer
    target, _, level = name.rpartition("-")
    if not target or level not in LEVEL_PRECISION:
        known = ", ".join([*OURS, *(peer.name for peer in PEERS)])
        raise ValueError(f"engine {name!r}: neither <target>-<LEVEL> nor one of {known}")
    return Engine(name, "ours.py", "", "", LEVEL_PRECISION[level], target, level)
