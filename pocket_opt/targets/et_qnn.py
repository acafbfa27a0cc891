"""ExecuTorch with Qualcomm's delegate: one program whose encoder and decoder the NPU computes.

The chip is that of any Snapdragon target (`target.soc=sd8gen3`), or one that the user describes. As with ONNX Runtime,
every shape is fixed, the NPU computes floats in 16 bits, and those before v69 compute none.
"""

from __future__ import annotations

from pocket_opt.config.schema import Decoder, Intents, Soc
from pocket_opt.errors import UserError
from pocket_opt.targets.base import Architecture, Package, Step, check_decoder, not_of_any, unless_source
from pocket_opt.targets.et_xnnpack import ELSEWHERE
from pocket_opt.targets.snapdragon import FIRST_WITH_FLOATS

PRECISIONS = {"int8": "16a8w", "int4": "16a8w"}
"""Weights that a level asks for -> bits of activations and weights; all others are computed in 16-bit floats. What 4
bits cost with this delegate was not scored, so EXTREME keeps 8 and gains by the student alone."""


class EtQnn:
    """See Target; `soc` is the chip."""

    name = "et_qnn"
    verified = "simulator"
    packages: tuple[Package, ...] = (Package("torch", "pip install torch"),)
    layouts: tuple[str, ...] = ()
    probe_task = "pocket_opt.runtimes.executorch_qnn:probe"

    def __init__(self, soc: Soc) -> None:
        self.soc = soc

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """One step: the program is the first thing that can be stored."""
        check_decoder(decoder, intents, ELSEWHERE, "kv_cache, static (the same here: a cache of full length)")
        precision = PRECISIONS.get(intents.weights, "fp16")
        if precision == "fp16" and self.soc.htp_arch < FIRST_WITH_FLOATS and intents.format == "target":
            raise UserError(
                f"the NPU of {self.soc.chip} (HTP v{self.soc.htp_arch}) computes no floats",
                where=f"target={self.name}, level.intents.weights={intents.weights}",
                allowed="int8 or int4 weights, or a chip from HTP v69 on",
                fix="choose level=HIGH",
            )
        step = Step(
            "program",
            "export_executorch_qnn",
            {"precision": precision},
            f"one .pte for {self.soc.chip}, HTP v{self.soc.htp_arch}, in {precision}",
        )
        return unless_source(intents, [step])

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: only the modules of a family are known to be delegated whole."""
        raise not_of_any(self.name)


OF_CHIP = EtQnn
