"""Phones through ONNX Runtime Mobile: the graphs of `cpu` in the format that its small builds read.

Runs on any CPU here, with the stock runtime; a build for the phone has the kernels that
`required_operators.config` names, and no others.
"""

from __future__ import annotations

from dataclasses import replace

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Architecture, Step, not_of_any
from pocket_opt.targets.cpu import Cpu


class Mobile(Cpu):
    """See Target."""

    name = "mobile"
    layouts = ()

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Those of `cpu`, converted at the end."""
        before = [_stored_as_computed(step) for step in super().steps(intents, decoder)]
        convert = Step("ort", "convert_ort", why="the format of ONNX Runtime Mobile")
        return [*before, convert if intents.format == "target" else replace(convert, off=before[0].off)]

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: its runner reads ONNX."""
        raise not_of_any(self.name)


def _stored_as_computed(step: Step) -> Step:
    """Integer products with their weights in 8 bits: those in 4 would be widened at each run, not when loaded."""
    return replace(step, params={**step.params, "bits": 8}) if step.name == "encoder_int8" else step


TARGET = Mobile()
