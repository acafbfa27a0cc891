"""ExecuTorch with XNNPACK: one program for the CPUs of phones, boards and this machine.

Every shape is fixed. 8 bits are dynamic, as for the CPU target's encoder: XNNPACK quantizes a row of activations as it
comes, so nothing is calibrated. 16 bits are computed, where that costs nothing: in the decoder.
"""

from __future__ import annotations

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Architecture, Package, Step, check_decoder, not_of_any, unless_source

INSTALL = "pip install 'pocket_opt[executorch]'"
WEIGHTS = {"fp16": "float16", "int8": "int8", "int4": "int4"}
ELSEWHERE = {
    "basic": "the shapes of an ExecuTorch program are fixed, and without a cache every token makes the input longer",
    "all_in_one": "torch.export refuses a decoding loop: its end depends on what is heard; target=torchscript keeps it",
}
"""Decoders of other targets, and why."""


class EtXnnpack:
    """See Target."""

    name = "et_xnnpack"
    verified = "native"
    packages = (Package("executorch", INSTALL), Package("torchao", INSTALL))
    layouts: tuple[str, ...] = ()
    probe_task = "pocket_opt.runtimes.executorch:probe"

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """One step: the program is the first thing that can be stored."""
        allowed = "kv_cache, static (the same here: a cache of full length)"
        check_decoder(decoder, intents, ELSEWHERE, allowed, prefill=True)
        weights = WEIGHTS.get(intents.weights, "float32")
        step = Step(
            "program",
            "export_executorch",
            {"weights": weights, "prefill": decoder.prefill},
            "one .pte, delegated to XNNPACK" + (f", with {weights} weights" if weights in WEIGHTS else ""),
        )
        return unless_source(intents, [step])

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: only the modules of a family are known to lower well."""
        raise not_of_any(self.name)


TARGET = EtXnnpack()
