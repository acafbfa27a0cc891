"""Any 64-bit CPU, through whichever of ONNX Runtime and OpenVINO is faster on this machine and within the budget.

Both are built as their own targets build them, are measured against the budget, race against each other, and the winner
is the result. Which one that is depends on the processor (integer kernels without VNNI, bfloat16) and on the model.
"""

from __future__ import annotations

from dataclasses import replace

from pocket_opt.config.schema import Decoder, Intents
from pocket_opt.targets.base import Architecture, Step, not_of_any
from pocket_opt.targets.cpu import TARGET as CPU
from pocket_opt.targets.openvino import TARGET as OPENVINO

BRANCHES = (CPU, OPENVINO)
CANDIDATES, MEASURED = ("first", "second"), ("quality", "degradation")
"""Edges of `choose_fastest`: the models, and what is measured of each."""
BASELINE_QUALITY = "baseline.quality"


class CpuBest:
    """See Target."""

    name = "cpu_best"
    verified = "native"
    packages = tuple(dict.fromkeys((*CPU.packages, *OPENVINO.packages)))
    layouts: tuple[str, ...] = ()
    probe_task = OPENVINO.probe_task

    def steps(self, intents: Intents, decoder: Decoder) -> list[Step]:
        """Both chains, each from the source on, what each loses, the race and the choice."""
        chains = [_branch(target.name, target.steps(intents, decoder)) for target in BRANCHES]
        steps = [step for chain in chains for step in chain]
        if intents.format == "source":
            return steps
        models, measured, losses = dict[str, str](), dict[str, str](), list[Step]()
        for edge, target, chain in zip(CANDIDATES, [one.name for one in BRANCHES], chains, strict=True):
            models[edge] = next(step.name for step in reversed(chain) if not step.off)
            measured |= {f"{edge}_{name}": f"{target}_{name}" for name in MEASURED}
            losses += _losses(target, models[edge])
        return [
            *steps,
            *losses,
            Step("race", "race", why="the two take turns at the same clip", inputs=models),
            Step(
                "choose",
                "choose_fastest",
                why="the faster one within the budget is the result",
                inputs={**models, "race": "race", **measured},
            ),
        ]

    def steps_of_any(self, intents: Intents, architecture: Architecture) -> list[Step]:  # noqa: ARG002
        """None: only one of the two runtimes takes Optimum's graphs."""
        raise not_of_any(self.name)


def _losses(target: str, model: str) -> list[Step]:
    """What the result of one chain is worth on the evaluation clips, measured as that of every result is."""
    quality, degradation = (f"{target}_{name}" for name in MEASURED)
    compared = {"quality": quality, "baseline": BASELINE_QUALITY}
    return [
        Step(quality, "quality", why="to be judged by the budget", inputs={"model": model}),
        Step(degradation, "degradation", why="to be judged by the budget", inputs=compared),
    ]


def _branch(target: str, steps: list[Step]) -> list[Step]:
    """The steps of one target under names of their own; the first that is taken begins at the source."""
    renamed, last = [], ""
    for step in steps:
        name = f"{target}_{step.name}"
        renamed.append(replace(step, name=name, inputs={"model": last}))
        last = last if step.off else name
    return renamed


TARGET = CpuBest()
