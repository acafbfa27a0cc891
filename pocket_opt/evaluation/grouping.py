"""Which module of a speech transformer a profiled node belongs to, and the shares that follow. Pure functions.

Exported graphs name their nodes by module ("encoder.layers.0.self_attn.q_proj/MatMul"). ONNX Runtime keeps these names
through most fusions, appends to them in others and invents new ones ("BiasGelu", "val_8_QuantizeLinear") in a few: then
the operator type decides, or the neighbour in execution order. What no rule knows is "other", and shown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

MEL = "mel"
OTHER = "other"
MODULES = (
    MEL,
    "convolution_stem",
    "attention_projections",
    "attention",
    "feed_forward",
    "norm",
    "residual",
    "embedding",
    "head",
    OTHER,
)
PHASES = (MEL, "encoder", "prefill", "step")

_BY_NAME = (
    ("attention_projections", r"\b([qkv]|out|qkv)_proj\b"),
    ("norm", r"layer_?norm"),
    ("attention", r"attn|attention|causal_mask"),
    ("feed_forward", r"\bfc[12]\b|activation_fn|\bmlp\b|layers\.\d+/\w*Gelu"),
    ("convolution_stem", r"\bconv[12]\b|encoder[./]gelu"),
    ("embedding", r"embed_tokens|embed_positions"),
    ("head", r"proj_out|lm_head|\bhead\b|^logits$"),
    ("residual", r"layers\.\d+/Add"),
)
"""Tried in this order on a node's name, case ignored."""
_BY_TYPE = {
    "LayerNormalization": "norm",
    "SkipLayerNormalization": "norm",
    "Attention": "attention",
    "MultiHeadAttention": "attention",
    "DecoderMaskedMultiHeadAttention": "attention",
    "GroupQueryAttention": "attention",
    "QAttention": "attention",
    "Softmax": "attention",
    "Conv": "convolution_stem",
    "FusedConv": "convolution_stem",
    "Gather": "embedding",
    "GatherBlockQuantized": "embedding",
}
_BELONGS_TO_NEXT = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})
"""These prepare the input of the node that follows them; any other nameless node continues the one before it."""


@dataclass(frozen=True)
class NodeTime:
    """Time of a node in one call, or in several (see `accumulate`).

    Attributes:
        phase: "mel", "encoder", "prefill" or "step".
        module: one of `MODULES`.
        microseconds: over all `calls`.
    """

    name: str
    op_type: str
    phase: str
    module: str
    microseconds: float
    calls: int = 1


def assign_modules(nodes: Sequence[tuple[str, str]], phase: str) -> list[str]:
    """The module of each (name, operator type) of one run, given in execution order."""
    if phase == MEL:
        return [MEL] * len(nodes)
    named = [module_of(name, op_type) for name, op_type in nodes]
    found = list(named)
    for place, (_, op_type) in enumerate(nodes):
        if named[place] is None:
            found[place] = (
                _following(named, place) if op_type in _BELONGS_TO_NEXT else _previous(found, place)
            )
    return [module or OTHER for module in found]


def module_of(name: str, op_type: str) -> str | None:
    """The module that a node's own name or operator type tells, or None."""
    for module, pattern in _BY_NAME:
        if re.search(pattern, name, re.IGNORECASE):
            return module
    return _BY_TYPE.get(op_type)


def accumulate(times: Iterable[NodeTime]) -> list[NodeTime]:
    """One entry per phase and node, slowest first: the median of its calls times their number.

    A sum would let one interruption by another process outweigh everything else.
    """
    calls: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for time in times:
        calls[time.phase, time.name, time.op_type, time.module].append(time.microseconds)
    robust = [
        NodeTime(name, op_type, phase, module, median(spent) * len(spent), len(spent))
        for (phase, name, op_type, module), spent in calls.items()
    ]
    return sorted(robust, key=lambda time: -time.microseconds)


def totals(times: Iterable[NodeTime], by: str) -> dict[str, float]:
    """Microseconds, largest first, by an attribute of NodeTime ("phase", "module", "op_type")."""
    total: dict[str, float] = defaultdict(float)
    for time in times:
        total[getattr(time, by)] += time.microseconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def shares(times: Iterable[NodeTime], by: str) -> dict[str, float]:
    """Share of the time in %, largest first, by an attribute of NodeTime."""
    total = totals(times, by)
    whole = sum(total.values())
    return {name: 100 * spent / whole for name, spent in total.items()} if whole else {}


def _following(named: Sequence[str | None], place: int) -> str | None:
    return next((module for module in named[place + 1 :] if module), None)


def _previous(found: Sequence[str | None], place: int) -> str | None:
    return found[place - 1] if place else None
