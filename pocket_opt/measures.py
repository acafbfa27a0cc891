"""What is measured on a variant: on its result, on the source model for comparison, and between the two."""

from __future__ import annotations

from typing import Any

from pocket_opt.config.schema import Config
from pocket_opt.data.dataset import Dataset
from pocket_opt.graph_edits import Draft, read_edits

SOURCE, BASELINE = "source", "baseline."
"""The node of the source model, and the prefix of measurements made on it for comparison."""


def measure_context(config: Config, clips: Dataset) -> dict[str, Any]:
    """What measurements may ask for, where it is set; each takes the parameters that it declares."""
    decoding = config.decoding
    context: dict[str, Any] = {
        "task": decoding.task,
        "timestamps": decoding.timestamps,
        "batch_size": decoding.batch_size,
        "max_new_tokens": decoding.max_new_tokens,
        "beams": decoding.beams,
        "length_penalty": decoding.length_penalty,
        "fallback": decoding.fallback,
        "condition_on_previous": decoding.condition_on_previous,
        "threads": config.target.threads,
        "limit": config.data.evaluation.limit,
        "data_path": str(clips.source.absolute()),
        "data_digest": clips.digest(),
    }
    return {name: value for name, value in context.items() if value is not None}


def measures(config: Config, result: str, *, has_data: bool, off: dict[str, str]) -> list[Draft]:
    """The measurements of the variant and of its baseline, the source model; `off` takes those left out, and why."""
    reference = result == SOURCE
    wanted = [
        Draft(name, name, {}, {"model": result}, "measured on the result")
        for name in ("quality", "latency", "memory")
    ]
    wanted.append(Draft("profile", "profile", {}, {"model": result}, "where the time goes"))
    if not reference:
        wanted += [
            Draft(BASELINE + name, name, {}, {"model": SOURCE}, "the source model, for comparison")
            for name in ("quality", "latency", "memory")
        ]
        wanted += [
            Draft(
                "degradation",
                "degradation",
                {},
                {"quality": "quality", "baseline": BASELINE + "quality"},
                "against NONE",
            ),
            Draft(
                "parity",
                "parity",
                {},
                {"model": result, "source": SOURCE},
                "numerical distance from the source",
            ),
        ]
    else:
        off |= dict.fromkeys(("degradation", "parity"), "this is the source model itself")
    if config.decoder.name == "all_in_one" and not reference:
        off["profile"] = "one graph holds all phases; profile decoder=kv_cache, whose graphs are in it"
    without_data = ("quality", BASELINE + "quality", "degradation")
    if not has_data:
        weights = config.recipe.model.weights
        why = (
            "random weights say nothing"
            if weights == "random"
            else "no evaluation data: set data.evaluation.path=DIR"
        )
        off |= {draft.name: why for draft in wanted if draft.name in without_data}
    for name, edit in read_edits(config.nodes).items():
        if not edit.enabled:
            off |= {
                draft.name: "switched off by you"
                for draft in wanted
                if name in (draft.name, *draft.inputs.values())
            }
    return wanted
