"""PyTorch's lite interpreter (PyTorch Mobile): TorchScript programs, for models that `torch.export` refuses.

TorchScript keeps loops and branches that depend on what is computed. It is no longer developed, and has no product
with 4-bit weights: where ExecuTorch takes a model, take that.
"""

from __future__ import annotations

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.errors import UserError
from pocket_opt.targets.base import Architecture, Package, Step, check_decoder, not_of_any, unless_source

WEIGHTS = {"fp16": "float16", "int8": "int8", "int4": "int8"}
WHY = {
    "fp16": "weights stored in 16 bits, widened when loaded",
    "int8": "8-bit weights, activations quantized as they come",
    "int4": "8-bit weights: TorchScript has no product with 4",
}
ELSEWHERE = {
    "basic": "the shapes of this program are fixed, and without a cache every token makes the input longer",
}
"""Decoders of other targets, and why."""


class Torchscript:
    """See Target."""

    name = "torchscript"
    verified = "native"
    packages = (Package("torch", "pip install torch"),)
    layouts: tuple[str, ...] = ()
    probe_task = "pocket_opt.runtimes.torchscript:probe"

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """One step: the program is the first thing that can be stored."""
        check_decoder(
            decoder,
            intents,
            ELSEWHERE,
            "kv_cache, static (the same here: a cache of full length), all_in_one",
        )
        _check_samples(decoder)
        why = "one .ptl for PyTorch's lite interpreter"
        if intents.weights in WEIGHTS:
            why += f"; {WHY[intents.weights]}"
        params = {"weights": WEIGHTS.get(intents.weights, "float32"), "loop": decoder.name == "all_in_one"}
        step = Step("program", "export_torchscript", params, why)
        return unless_source(intents, [step])

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: only the modules of a family are known here."""
        raise not_of_any(self.name)


def _check_samples(decoder: Decoder) -> None:
    """Raise UserError for audio as the bytes of a file."""
    if decoder.audio == "file":
        raise UserError(
            "a TorchScript program takes samples; reading audio files is done by ONNX Runtime's extensions",
            where="decoder.audio=file",
            allowed="decoder.audio=samples, or target=cpu",
            fix="leave decoder.audio as it is: run.py reads files",
        )


TARGET = Torchscript()
