"""What users change in a graph: nodes added, parameters changed, nodes removed.

An edit is an entry of `nodes`: `nodes.<name>: {pass, params, after, inputs, enabled}`. An existing name changes that
node; a new name adds one behind `after`, and whatever took its model from there now takes it from the new node. An
added measurement hangs beside the chain and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pocket_opt.config.parsing import parse
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.passes import MEASUREMENTS, load_pass
from pocket_opt.targets.base import Step

BASELINE = "baseline"
RACE, HOSTED = "race", "on_ai_hub"
_ON_ANY_TARGET = tuple(name for name in MEASUREMENTS if name not in (RACE, HOSTED))
MEASURE_NODES = (*_ON_ANY_TARGET, *(f"{BASELINE}.{name}" for name in _ON_ANY_TARGET))
KEYS = ("pass", "params", "after", "inputs", "enabled")


@dataclass(frozen=True)
class Draft:
    """A node before its parameters are checked and its key material is known."""

    name: str
    pass_name: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    why: str


@dataclass(frozen=True)
class Edit:
    """One entry of `nodes`."""

    pass_name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    after: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True


def chain(steps: Sequence[Step], root: str) -> list[Draft]:
    """The steps of a target as nodes behind `root`."""
    drafts: list[Draft] = []
    for step in steps:
        inputs = {edge: name or root for edge, name in step.inputs.items()}
        inputs = inputs or {"model": drafts[-1].name if drafts else root}
        drafts.append(Draft(step.name, step.pass_name, dict(step.params), inputs, step.why))
    return drafts


def apply_edits(
    drafts: Sequence[Draft], edits: Mapping[str, Any], *, result: str, off: Mapping[str, str] | None = None
) -> tuple[list[Draft], str, dict[str, str]]:
    """Apply all edits to the build chain.

    Args:
        off: nodes that the level leaves out -> why. Switching them off again is fine, changing them is a mistake.

    Returns:
        The drafts, the name of the result, and the removed names with the reason.

    Raises:
        UserError: an edit that names nothing that is there, or cannot be carried out.
    """
    chain, removed = list(drafts), {}
    for name, edit in read_edits(edits).items():
        known = [draft.name for draft in chain]
        if name in known and not edit.enabled:
            if not _measures(chain, name):
                chain, result = _remove(chain, name, result)
            removed[name] = "switched off by you"
        elif name in known:
            chain, result = _change(chain, name, edit, result)
        elif name in MEASURE_NODES:
            _check_measurement(name, edit)
        elif edit.pass_name is None:
            _check_off(name, edit, off or {}, known)
        elif edit.enabled:
            chain, result = _add(chain, name, edit, result)
    return chain, result, removed


def read_edits(edits: Mapping[str, Any]) -> dict[str, Edit]:
    """The entries of `nodes`, checked; `nodes.baseline.latency` is the node "baseline.latency"."""
    table = dict(edits)
    if isinstance(table.get(BASELINE), Mapping):
        table |= _of_baseline(table.pop(BASELINE))
    return {name: _read(name, raw) for name, raw in table.items()}


def _of_baseline(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of the baseline's nodes; `nodes.baseline.enabled` holds for each that does not say it itself."""
    own = dict(entries)
    if "enabled" in own:
        every = {"enabled": own.pop("enabled")}
        own = dict.fromkeys(_ON_ANY_TARGET, every) | {
            name: {**every, **raw} if isinstance(raw, Mapping) else raw for name, raw in own.items()
        }
    return {f"{BASELINE}.{name}": raw for name, raw in own.items()}


def _read(name: str, raw: Any) -> Edit:
    where = f"nodes.{name}"
    if isinstance(raw, Mapping):
        for key in raw:
            if key not in KEYS:
                raise unknown_name("key", str(key), KEYS, where=where)
        raw = {("pass_name" if key == "pass" else key): value for key, value in raw.items()}
    return parse(Edit, raw, where=where)


def _check_measurement(name: str, edit: Edit) -> None:
    if edit.pass_name or edit.after or edit.inputs:
        raise UserError(
            f"'{name}' is a measurement of this project and keeps its pass and its place",
            where=f"nodes.{name}",
            allowed="params, enabled",
            fix="add a node of another name",
        )


def _check_off(name: str, edit: Edit, off: Mapping[str, str], known: Sequence[str]) -> None:
    """Without a pass, an edit must mean a node that is there, or switch off one that is off anyway."""
    if name not in off:
        where = f"nodes.{name} (a new node needs a pass)"
        raise unknown_name("node", name, [*known, *MEASURE_NODES, *off], where=where)
    if edit.enabled:
        raise UserError(
            f"the node '{name}' is off: {off[name]}",
            where=f"nodes.{name}",
            allowed=", ".join(known),
            fix=f"add it with nodes.{name}.pass=PASS",
        )


def _measures(chain: Sequence[Draft], name: str) -> bool:
    [draft] = [draft for draft in chain if draft.name == name]
    return load_pass(draft.pass_name).kind == "measure"


def _change(chain: list[Draft], name: str, edit: Edit, result: str) -> tuple[list[Draft], str]:
    old = next(draft for draft in chain if draft.name == name)
    new = replace(
        old,
        pass_name=edit.pass_name or old.pass_name,
        params={**({} if edit.pass_name else old.params), **edit.params},
        inputs={**old.inputs, **edit.inputs},
        why="changed by you",
    )
    kinds = [load_pass(one.pass_name, where=f"nodes.{name}.pass").kind for one in (old, new)]
    if kinds == ["build", "measure"]:
        raise UserError(
            f"the pass '{new.pass_name}' measures and makes no model that '{name}' could hand on",
            where=f"nodes.{name}.pass",
            fix="add a node of another name",
        )
    if edit.after is None:
        return [new if draft.name == name else draft for draft in chain], result
    chain, result = _remove(chain, name, result)
    return _insert(chain, replace(new, inputs={**new.inputs, "model": edit.after}), edit.after, result)


def _add(chain: list[Draft], name: str, edit: Edit, result: str) -> tuple[list[Draft], str]:
    step = load_pass(edit.pass_name or "", where=f"nodes.{name}.pass")
    after = edit.after or result
    needed = [edge for edge in step.inputs if edge not in step.optional]
    inputs = edit.inputs or dict.fromkeys(needed, after)
    added = Draft(name, edit.pass_name or "", dict(edit.params), inputs, "added by you")
    extended, new_result = _insert(chain, added, after, result)
    return ([*chain, added], result) if step.kind == "measure" else (extended, new_result)


def _insert(chain: list[Draft], added: Draft, after: str, result: str) -> tuple[list[Draft], str]:
    """Put a node behind `after`; what took its model from there takes it from the new node."""
    names = [draft.name for draft in chain]
    if after not in names:
        raise unknown_name("node", after, names, where=f"nodes.{added.name}.after")
    moved = [_reroute(draft, after, added.name) for draft in chain]
    place = names.index(after) + 1
    return [*moved[:place], added, *moved[place:]], added.name if result == after else result


def _remove(chain: list[Draft], name: str, result: str) -> tuple[list[Draft], str]:
    gone = next(draft for draft in chain if draft.name == name)
    source = gone.inputs.get("model")
    if source is None:
        raise UserError(
            f"'{name}' is where the graph begins and cannot be removed",
            where=f"nodes.{name}",
            fix="choose another model, or level.intents.student=false for the teacher",
        )
    kept = [_reroute(draft, name, source) for draft in chain if draft.name != name]
    return kept, source if result == name else result


def _reroute(draft: Draft, old: str, new: str) -> Draft:
    return replace(draft, inputs={edge: new if node == old else node for edge, node in draft.inputs.items()})
