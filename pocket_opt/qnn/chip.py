"""Which chip binaries are for, as every pass that makes some is told of it and writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.errors import UserError
from pocket_opt.passes.base import planned

SOC = "target.soc"
GRAPHS = ("encoder", "prefill", "decoder")
"""What is compiled; `mel` stays a graph for the CPU."""
PREFILL = "prefill"
"""The one of them that a model may do without."""


@dataclass(frozen=True)
class ChipParams:
    """For what is compiled.

    Attributes:
        chip: its name, e.g. SM8750.
        soc_model: the number that the compiler knows the chip by.
        htp_arch: generation of its NPU.
        vtcm_mb: MB of the NPU's fast memory.
    """

    chip: str = planned("", instead=SOC)
    soc_model: int = planned(0, instead=SOC)
    htp_arch: int = planned(0, instead=SOC)
    vtcm_mb: int = planned(0, instead=SOC)


def check_chip(params: ChipParams) -> None:
    """Raise UserError unless chip and generation are both given: one without the other compiles for neither."""
    if not (params.chip and params.soc_model and params.htp_arch and params.vtcm_mb):
        raise UserError(
            "the compiler needs the chip and the generation of its NPU together",
            where=SOC,
            allowed="chip, soc_model, htp_arch and vtcm_mb",
            fix="choose target=snapdragon, or another chip that `pocket-opt list target` shows",
        )


def graphs_of(model: Artifact) -> tuple[str, ...]:
    """What is compiled of `model`."""
    return tuple(name for name in GRAPHS if name != PREFILL or name in model.components)


def about(params: ChipParams, model: Artifact, **more: Any) -> dict[str, Any]:
    """What whoever runs the binaries must know of them; the binaries themselves do not say what chip they are for.

    Args:
        model: what was compiled.
        more: what differs from a binary of every graph alone, all of it on the NPU.
    """
    import onnxruntime_qnn

    told = {
        "chip": params.chip,
        "soc_model": params.soc_model,
        "htp_arch": params.htp_arch,
        "vtcm_mb": params.vtcm_mb,
        "graphs": list(graphs_of(model)),
        "allow_fallback": False,
        "share_weights": False,
        "run_options": {},
        "provider": onnxruntime_qnn.__version__,
    }
    return told | more
