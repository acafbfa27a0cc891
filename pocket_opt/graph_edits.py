"""What users change in a graph: nodes added, parameters changed, nodes removed.

An edit is an entry of `nodes`: `nodes.<name>: {pass, params, after, inputs, enabled}`. An existing name changes that
node; a new name adds one behind `after`, and whatever took its model from there now takes it from the new node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pocket_opt.config.parsing import parse
from pocket_opt.errors import UserError, unknown_name
from pocket_opt.passes import MEASUREMENTS, load_pass

MEASURE_NODES = (*MEASUREMENTS, *(f"baseline.{name}" for name in MEASUREMENTS))


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


def apply_edits(
    drafts: Sequence[Draft], edits: Mapping[str, Any], *, result: str
) -> tuple[list[Draft], str, dict[str, str]]:
    """Apply all edits to the build chain.

    Returns:
        The drafts, the name of the result, and the removed names with the reason.
    """
    chain, removed = list(drafts), {}
    for name, raw in edits.items():
        edit = _read(name, raw)
        known = [draft.name for draft in chain]
        if name in known and not edit.enabled:
            chain, result = _remove(chain, name, result)
            removed[name] = "switched off by you"
        elif name in known:
            chain = [_change(draft, edit) if draft.name == name else draft for draft in chain]
        elif name in MEASURE_NODES:
            continue
        elif edit.pass_name is None:
            raise unknown_name(
                "node", name, [*known, *MEASURE_NODES], where=f"nodes.{name} (a new node needs a pass)"
            )
        elif edit.enabled:
            chain, result = _add(chain, name, edit, result)
    return chain, result, removed


def _read(name: str, raw: Any) -> Edit:
    where = f"nodes.{name}"
    if isinstance(raw, Mapping):
        raw = {("pass_name" if key == "pass" else key): value for key, value in raw.items()}
    return parse(Edit, raw, where=where)


def _change(draft: Draft, edit: Edit) -> Draft:
    return replace(
        draft,
        pass_name=edit.pass_name or draft.pass_name,
        params={**({} if edit.pass_name else draft.params), **edit.params},
        inputs={**draft.inputs, **edit.inputs},
        why="changed by you",
    )


def _add(chain: list[Draft], name: str, edit: Edit, result: str) -> tuple[list[Draft], str]:
    after = edit.after or result
    if after not in [draft.name for draft in chain]:
        raise unknown_name("node", after, [draft.name for draft in chain], where=f"nodes.{name}.after")
    pass_name = edit.pass_name or ""
    step = load_pass(pass_name, where=f"nodes.{name}.pass")
    inputs = edit.inputs or dict.fromkeys(step.inputs, after)
    moved = [_reroute(draft, after, name) for draft in chain]
    place = [draft.name for draft in chain].index(after) + 1
    added = Draft(name, pass_name, dict(edit.params), inputs, "added by you")
    return [*moved[:place], added, *moved[place:]], name if result == after else result


def _remove(chain: list[Draft], name: str, result: str) -> tuple[list[Draft], str]:
    gone = next(draft for draft in chain if draft.name == name)
    source = gone.inputs.get("model")
    if source is None:
        raise UserError(f"'{name}' is where the graph begins and cannot be removed", where=f"nodes.{name}")
    kept = [_reroute(draft, name, source) for draft in chain if draft.name != name]
    return kept, source if result == name else result


def _reroute(draft: Draft, old: str, new: str) -> Draft:
    return replace(draft, inputs={edge: new if node == old else node for edge, node in draft.inputs.items()})
