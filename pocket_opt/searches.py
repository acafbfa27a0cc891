"""Where a search for the precision of each layer stands in a graph, and when there can be none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError
from pocket_opt.graph import Node
from pocket_opt.graph_edits import Draft
from pocket_opt.passes import load_pass
from pocket_opt.precision import OVERRIDES

SEARCH, LIMIT = "search", "wer_delta"
"""The node, and the part of the budget that it keeps to."""


def with_search(config: Config, drafts: Sequence[Draft]) -> list[Draft]:
    """`drafts`, with the search before the first quantizer where the configuration asks for one.

    Raises:
        UserError: there is no quantizer, none that knows graphs of these shapes, or no budget to keep to.
    """
    if config.search.name == "none":
        return list(drafts)
    for place, draft in enumerate(drafts):
        step = load_pass(draft.pass_name)
        if OVERRIDES in {entry.name for entry in fields(step.Params)}:
            search = _draft(config, draft.inputs["model"], step.search_params)
            behind = replace(draft, inputs={**draft.inputs, "model": SEARCH})
            return [*drafts[:place], search, behind, *drafts[place + 1 :]]
    raise _no_quantizer("search=sensitivity", config)


def check_overrides_taken(nodes: Iterable[Node], config: Config) -> None:
    """An override file is for quantizers, of which there must be one; UserError if there is none."""
    if config.overrides and not any(OVERRIDES in node.params for node in nodes):
        raise _no_quantizer(f"overrides={config.overrides}", config)


def _draft(config: Config, model: str, told: Mapping[str, Any]) -> Draft:
    budget = config.level_budget
    if LIMIT not in budget:
        raise UserError(
            f"the search keeps to a budget, and level {config.level.name} of this recipe has none",
            where="search=sensitivity",
            allowed=f"budget.{LIMIT}=POINTS, e.g. 0.5",
            fix=f"set budget.{LIMIT}=0.5",
        )
    if config.decoder.name == "static" and not told:
        raise UserError(
            "the quantizers of this variant choose forms that the search does not try in graphs of fixed shapes",
            where=f"search=sensitivity, decoder=static, target={config.target.name}",
            allowed="decoder=kv_cache, or target=snapdragon",
            fix="search with decoder=kv_cache, and give that bundle's overrides.yaml to this variant: overrides=FILE",
        )
    params = {LIMIT: budget[LIMIT], **told}
    return Draft(
        SEARCH, "sensitivity_search", params, {"model": model}, "chooses the precision of each layer"
    )


def _no_quantizer(where: str, config: Config) -> UserError:
    return UserError(
        "no pass of this variant chooses a precision by layer",
        where=where,
        allowed=f"levels whose quantizers on target {config.target.name} take overrides: HIGH and EXTREME on cpu",
        fix="choose such a level, or leave it out",
    )
