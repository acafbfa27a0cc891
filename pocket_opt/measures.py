"""What is measured on a variant: on its result, on the source model for comparison, and between the two."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from pocket_opt.config.schema import Config
from pocket_opt.data.dataset import Dataset
from pocket_opt.devices import hosted_name
from pocket_opt.errors import UserError
from pocket_opt.graph_edits import Draft, read_edits
from pocket_opt.models.sources import OPTIMUM
from pocket_opt.passes import load_pass
from pocket_opt.targets import load_target

SOURCE, BASELINE = "source", "baseline."
"""The node of the source model, and the prefix of measurements made on it for comparison."""

AGREEMENT = "agreement"
FEW_CLIPS = {"clips": 2}
"""Of measurements in a simulator besides quality."""

ALL_CORES = {"processes": 0}
"""Of quality in a simulator, which computes a clip in seconds and leaves cores idle."""

SIMULATED_WINDOW_S = 10.0
TOO_LONG = (
    "the simulator takes minutes to hours for one window of this model; the node that compiles it says what was "
    "simulated"
)
"""Why a model whose window is longer is not run clip by clip: the encoder of whisper-tiny takes three minutes."""

UNLOADABLE = "the simulator cannot load binaries with shared weights; the node that compiles it says what was simulated"
UNTIMED = {"torchscript": "the lite interpreter tells no times of its operators"}
"""Targets whose runtimes have no profiler, and why."""
SIMULATED = "the chip is simulated here, and a simulator's times and memory are not the chip's"


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


def measures(
    config: Config,
    drafts: Sequence[Draft],
    last: str,
    *,
    window_s: float,
    has_data: bool,
    off: dict[str, str],
) -> list[Draft]:
    """The measurements of `last` and of its baseline, the source model; `off` takes those left out, and why.

    Args:
        drafts: the build chain that leads to `last`.
    """
    compiled = next((draft for draft in drafts if load_pass(draft.pass_name).compiles), None)
    reference, simulated = last == SOURCE, load_target(config.target.name).verified == "simulator"
    if config.recipe.family == OPTIMUM:
        return _of_graphs(config, last, off)
    wanted = [
        Draft(name, name, params, {"model": last}, "measured on the result")
        for name, params in (("quality", ALL_CORES if simulated else {}), ("latency", {}), ("memory", {}))
    ]
    wanted.append(Draft("profile", "profile", {}, {"model": last}, "where the time goes"))
    wanted += _on_device(config, last, compiled, off)
    if not reference:
        wanted += _against_source(last, simulated=simulated)
    else:
        off |= dict.fromkeys(("degradation", "parity"), "this is the source model itself")
    if compiled is not None:
        graphs = {"model": last, "graphs": compiled.inputs["model"], "quality": "quality"}
        wanted.append(Draft(AGREEMENT, AGREEMENT, {}, graphs, "what compiling changed"))
    if not reference and simulated and (window_s > SIMULATED_WINDOW_S or _shares(config, compiled)):
        why = UNLOADABLE if _shares(config, compiled) else TOO_LONG
        off |= dict.fromkeys(("quality", "parity", AGREEMENT), why)
    if not reference and simulated:
        off |= dict.fromkeys(("latency", "memory", "profile"), SIMULATED)
    if not reference and config.target.name in UNTIMED:
        off["profile"] = UNTIMED[config.target.name]
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
    _switch_off(config, wanted, off)
    return wanted


def _against_source(result: str, *, simulated: bool) -> list[Draft]:
    """What is measured on the source model, too, and between the two."""
    both = {"quality": "quality", "baseline": BASELINE + "quality"}
    pair = {"model": result, "source": SOURCE}
    few = FEW_CLIPS if simulated else {}
    return [
        *(
            Draft(BASELINE + name, name, {}, {"model": SOURCE}, "the source model, for comparison")
            for name in ("quality", "latency", "memory")
        ),
        Draft("degradation", "degradation", {}, both, "against NONE"),
        Draft("parity", "parity", few, pair, "numerical distance from the source"),
    ]


def _shares(config: Config, compiled: Draft | None) -> bool:
    """Whether the user asks for binaries with shared weights."""
    edit = read_edits(config.nodes).get(compiled.name) if compiled is not None else None
    return edit is not None and bool(edit.params.get("share_weights"))


def _on_device(config: Config, result: str, compiled: Draft | None, off: dict[str, str]) -> list[Draft]:
    """The measurement on a device of the user's, or on one that Qualcomm hosts, if there is one."""
    if config.device is None:
        return []
    if result == SOURCE:
        off["on_device"] = "the source model stays on this machine"
        return []
    why = f"run on {config.device}"
    if name := hosted_name(config.device):
        if config.target.soc is None or compiled is None:
            raise UserError(
                "Qualcomm AI Hub runs context binaries of Qualcomm's NPUs, and this target makes none",
                where=f"device={config.device}, target={config.target.name}",
                allowed="target=snapdragon and its like",
                fix="choose one of these targets, or leave device out",
            )
        edges = {"model": result, "graphs": compiled.inputs["model"]}
        return [Draft("on_device", "on_ai_hub", {"device": name}, edges, why)]
    given = {"address": config.device, "python": config.device_python}
    return [Draft("on_device", "on_device", given, {"model": result}, why)]


def _of_graphs(config: Config, result: str, off: dict[str, str]) -> list[Draft]:
    """What can be measured where nothing is known of a model but its graphs."""
    off |= dict.fromkeys(("quality", "memory", "profile"), "measured of models that hear speech")
    if result == SOURCE:
        off |= dict.fromkeys(
            ("latency", "parity"), "the source model is measured beside each of its variants"
        )
        return []
    both = {"model": result, "source": SOURCE}
    wanted = [
        Draft("latency", "graph_latency", {}, both, "in turns with the source model"),
        Draft("parity", "graph_parity", {}, both, "numerical distance from the source"),
    ]
    _switch_off(config, wanted, off)
    return wanted


def _switch_off(config: Config, wanted: Sequence[Draft], off: dict[str, str]) -> None:
    """Move what the user switched off to `off`, and what it would be compared with."""
    edits = read_edits(config.nodes)
    off |= {
        draft.name: "switched off by you"
        for draft in wanted
        if draft.name in edits and not edits[draft.name].enabled
    }
    for draft in wanted:
        compared = draft.name.removeprefix(BASELINE)
        if compared in off:
            off.setdefault(draft.name, f"{compared} is off: {off[compared]}")


def without_off(drafts: Sequence[Draft], config: Config, off: dict[str, str]) -> list[Draft]:
    """The drafts that are on; `off` takes those that cannot do without what is off, and why.

    A measurement that serves a choice between models (an edge that may be missing leads to it) is on where the same is
    measured on the result, and takes the parameters that are set for that.

    Raises:
        UserError: a build pass cannot do without a measurement that is off.
    """
    edits, serving = read_edits(config.nodes), _serving(drafts)
    given = [
        replace(draft, params={**draft.params, **edits[draft.pass_name].params})
        if draft.name in serving and draft.pass_name in edits
        else draft
        for draft in drafts
    ]
    for draft in given:
        if draft.name in serving and draft.pass_name in off:
            off.setdefault(draft.name, off[draft.pass_name])
    _spread(given, off)
    return [_without_edges(draft, off) for draft in given if draft.name not in off]


def _serving(drafts: Sequence[Draft]) -> set[str]:
    """The nodes that edges lead to which may be missing."""
    return {
        source
        for draft in drafts
        for edge, source in draft.inputs.items()
        if edge in load_pass(draft.pass_name).optional
    }


def _without_edges(draft: Draft, off: Collection[str]) -> Draft:
    """The draft without the edges that may be missing to what is off."""
    optional = load_pass(draft.pass_name).optional
    kept = {
        edge: source for edge, source in draft.inputs.items() if edge not in optional or source not in off
    }
    return replace(draft, inputs=kept)


def _spread(drafts: Sequence[Draft], off: dict[str, str]) -> None:
    """Switch off every measurement that needs a node that is off, until none does."""
    names = {draft.name for draft in drafts}
    while lost := next(
        (
            (draft, source)
            for draft in drafts
            if draft.name not in off
            for source in _needs(draft, names & off.keys())
        ),
        None,
    ):
        draft, source = lost
        if load_pass(draft.pass_name).kind == "build":
            raise UserError(
                f"'{draft.name}' cannot do without '{source}', which is off: {off[source]}",
                where=f"nodes.{source}",
                fix="leave it on, or choose another target",
            )
        off[draft.name] = off[source]


def _needs(draft: Draft, among: Collection[str]) -> list[str]:
    """The nodes of `among` that a draft cannot do without."""
    optional = load_pass(draft.pass_name).optional
    return [source for edge, source in draft.inputs.items() if source in among and edge not in optional]
