"""One variant from plan to bundle: download, run the graph, write the bundle, remember what the keys were made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pocket_opt.bundle.layout import Bundle, write_bundle
from pocket_opt.bundle.publication import bundle_directory
from pocket_opt.devices import hosted_name, open_device
from pocket_opt.engine import Observer, Run, run_graph
from pocket_opt.errors import PocketOptError
from pocket_opt.graph import key_material
from pocket_opt.home import home, write_atomically
from pocket_opt.models import hub
from pocket_opt.models.sources import WHISPER
from pocket_opt.passes import MEASUREMENTS, load_pass
from pocket_opt.planner import Plan, plan_variant
from pocket_opt.results import NodeRecord, VariantRecord
from pocket_opt.store import Store
from pocket_opt.targets import described_chip, load_target
from pocket_opt.toolchains import environments, load_toolchain

ON_DEVICE = "on_device"
AI_HUB, AI_HUB_S = "ai_hub", 120.0
"""Toolchain of hosted devices, and the seconds that their list may take."""


def _unheard(line: str) -> None:
    """A listener to pip who says nothing."""


def open_store() -> Store:
    """The store of this machine's home."""
    return Store(home() / "store")


def run_variant(plan: Plan, observer: Observer | None = None) -> Bundle:
    """Carry a plan out and return its bundle; nodes that the store has are not run again.

    A fallback is carried out before it, and leaves a bundle of its own, too.

    Raises:
        PocketOptError: the download, a node or the disk failed.
    """
    plan = with_downloads(plan)
    provide_toolchains(plan)
    reach_device(plan)
    fallback = run_variant(plan.fallback, observer) if plan.fallback is not None else None
    run = run_graph(plan.graph, open_store(), timeout_s=plan.config.timeout_s, observer=observer)
    measured = {node.name: run.artifact(node.name) for node in plan.graph if node.kind == "measure"}
    bundle = write_bundle(
        _record(plan, run),
        run.artifact(plan.result),
        destination(plan),
        measurements=measured,
        fallback=fallback,
    )
    remember(plan)
    return bundle


def destination(plan: Plan) -> Path:
    """`outputs/<recipe>/<target>/<level>-<row>/`, absolute."""
    config = plan.config
    outputs = Path(config.output_dir).expanduser().absolute()
    return bundle_directory(outputs, config.recipe.name, config.target.name, config.level.name, plan.row_key)


def with_downloads(plan: Plan) -> Plan:
    """Fetch the models that a plan names but this machine lacks, and plan again with what is now known."""
    if not plan.downloads:
        return plan
    for hub_id, revision in plan.downloads:
        hub.fetch(hub_id, revision, text=plan.config.recipe.family == WHISPER)
    known = plan_variant(plan.config, plan.overrides)
    if known.downloads:
        raise PocketOptError("a downloaded model vanished", where=known.downloads[0][0], fix="run it again")
    return known


def provide_toolchains(plan: Plan, say: Callable[[str], None] = _unheard) -> None:
    """Have the environments of the nodes that are to run: installed where the plan says so, else refused.

    Raises:
        UserError: one is missing and may not be installed.
    """
    for name in sorted({load_pass(plan.graph[node].pass_name).toolchain for node in _to_run(plan)} - {""}):
        toolchain = load_toolchain(name)
        if plan.config.toolchains.install:
            environments.install(toolchain, say)
        else:
            environments.require(toolchain)


def reach_device(plan: Plan) -> None:
    """Raise UserError, before anything is built, where the device that the plan is to run on does not answer."""
    device, soc = plan.config.device, described_chip(plan.config.target.soc)
    if device is None or ON_DEVICE not in _to_run(plan):
        return
    if (name := hosted_name(device)) and soc is not None:
        asked = {"device": name, "htp_arch": soc.htp_arch}
        environments.call(load_toolchain(AI_HUB), "jobs:find_device", asked, timeout_s=AI_HUB_S)
    else:
        open_device(device)


def _to_run(plan: Plan) -> set[str]:
    """The nodes whose results the store has not."""
    present = {name for name, key in plan.keys.items() if open_store().has(key)}
    return set(plan.graph.needed(present) - present)


def remember(plan: Plan) -> None:
    """Keep what the keys were made of, for `explain`; a disk that refuses costs no more than that."""
    with suppress(OSError):
        write_atomically(memory_of(plan), json.dumps(materials(plan)))


def materials(plan: Plan) -> dict[str, Any]:
    """Node name -> everything its key is made of."""
    return {node.name: key_material(node, plan.keys) for node in plan.graph}


def memory_of(plan: Plan) -> Path:
    """The file that holds the last run's materials of this recipe, target and level."""
    config = plan.config
    return home() / "last" / f"{config.recipe.name}.{config.target.name}.{config.level.name}.json"


def _record(plan: Plan, run: Run) -> VariantRecord:
    config = plan.config
    level = config.level
    measurements = _measurements(plan, run)
    return VariantRecord(
        recipe=config.recipe.name,
        target=config.target.name,
        level=level.name,
        level_rank=level.rank,
        overrides=plan.overrides,
        build_key=plan.build_key,
        measurement_key=plan.measurement_key,
        row_key=plan.row_key,
        config=asdict(config),
        components=plan.components,
        nodes=tuple(run.records),
        measurements=measurements,
        budget=config.level_budget,
        sources={name: dict(root.identity) for name, root in plan.roots.items()},
        verified=verification(plan, measurements, run.records),
        license=config.recipe.license,
        weights=run.artifact(plan.result).metadata.get("weights", config.recipe.model.weights),
        seed=config.seed,
    )


def _measurements(plan: Plan, run: Run) -> dict[str, Mapping[str, Any]]:
    return {
        node.name: json.loads(run.artifact(node.name).path("result").read_text())
        for node in plan.graph
        if node.kind == "measure"
    }


def verification(
    plan: Plan, measurements: Mapping[str, Mapping[str, Any]], records: Iterable[NodeRecord] = ()
) -> dict[str, str]:
    """How the result was run here, and on what; "structural" where nothing ran it."""
    ran = [
        node.name for node in plan.graph if node.name in MEASUREMENTS and plan.result in node.inputs.values()
    ]
    if "quality" in ran and plan.clips is not None:
        decoded = int(measurements["quality"]["metrics"]["clips"]["value"])
        scope = f"all {plan.clips} clips" if decoded == plan.clips else f"{decoded} of {plan.clips} clips"
    elif ran:
        scope = f"executed for {', '.join(ran)}; not scored"
    elif spots := _spots(records):
        scope = f"random inputs; {spots}"
    else:
        return {"how": "structural", "scope": "not executed"}
    how = load_target(plan.config.target.name).verified
    if ON_DEVICE in measurements:
        return {"how": "native", "scope": _on_device(measurements[ON_DEVICE], f"{how}: {scope}")}
    return {"how": how, "scope": scope}


def _on_device(measured: Mapping[str, Any], here: str) -> str:
    """What a device ran, and what was run `here`, where the device only took the time."""
    told = measured["details"]
    device = f"{told['device']}, build {told['build']}"
    if "timed" in told:
        return f"{told['timed']} timed on {device}; {here}"
    return f"{int(measured['metrics']['clips']['value'])} clips on {device}"


def _spots(records: Iterable[NodeRecord]) -> str:
    """What the pass that compiled the result ran of it."""
    found = [record.did for record in records if load_pass(record.pass_name).compiles]
    graphs = {
        name: graph["checked"] for did in found for name, graph in did.items() if "cosine_to_cpu" in graph
    }
    return "; ".join(f"{name}: {checked}" for name, checked in graphs.items())
