"""A recipe's budget: which metrics it may limit, and the verdict on what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pocket_opt.errors import nearest, unknown_name

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""group -> name -> `{"value", "unit", "n", "method"}`."""

SIZE_LIMITS = ("size.total_mb", "size.ratio_to_source", "size.*_mb")
_TOTAL_SIZE = "size_mb"
_TYPING_ERROR = 0.85
"""A name this much like a fixed one is taken for it, misspelt, before a `*` is tried."""


def check(budget: Mapping[str, float], limits: Collection[str], *, where: str) -> None:
    """Refuse limits on metrics that no measurement makes.

    Args:
        budget: metric or group.metric -> upper limit.
        limits: metrics that may be limited, as group.metric; `*` stands for what the data or the model names.
        where: the key that holds the budget, e.g. "recipe.budget.HIGH".

    Raises:
        UserError: with the nearest name.
    """
    groups: dict[str, set[str]] = defaultdict(set, {"": {_TOTAL_SIZE}})
    for limit in limits:
        group, _, name = limit.partition(".")
        groups[group].add(name)
        groups[""].add(name)
    for written in budget:
        group, _, name = written.rpartition(".")
        if group not in groups:
            raise unknown_name("group of metrics", group, groups.keys() - {""}, where=f"{where}.{written}")
        known = groups[group]
        fixed = [one for one in known if "*" not in one]
        misspelt = name not in fixed and nearest(name, fixed, cutoff=_TYPING_ERROR)
        if misspelt or not any(fnmatchcase(name, one) for one in known):
            raise unknown_name("metric that can be limited", name, known, where=f"{where}.{written}")


def judge(budget: Mapping[str, float], metrics: Metrics) -> dict[str, Any]:
    """Compare metrics with upper limits.

    Returns:
        `{"verdict", "limits": [{"metric", "limit", "verdict"[, "value"]}]}`. The verdict is `over_budget` if any
        measured value exceeds its limit, `within` if at least one was measured and none exceeds, else `no_budget`. A
        limit whose metric was not measured has the verdict `not_measured` and no value.
    """
    limits = [_judge_one(name, limit, _find(name, metrics)) for name, limit in budget.items()]
    verdicts = {limit["verdict"] for limit in limits}
    overall = next((name for name in ("over_budget", "within") if name in verdicts), "no_budget")
    return {"verdict": overall, "limits": limits}


def _judge_one(name: str, limit: float, value: float | None) -> dict[str, Any]:
    if value is None:
        return {"metric": name, "limit": limit, "verdict": "not_measured"}
    verdict = "over_budget" if value > limit else "within"
    return {"metric": name, "limit": limit, "value": value, "verdict": verdict}


def _find(name: str, metrics: Metrics) -> float | None:
    """The value of a metric called `name`, or `group.name`; `size_mb` is the total size."""
    group, _, short = ("", "", "total_mb") if name == _TOTAL_SIZE else name.rpartition(".")
    for key, table in metrics.items():
        if short in table and group in ("", key):
            return float(table[short]["value"])
    return None
