"""The tokens that a model never says, forbidden inside the decoder graph, for clients that know no such rule.

Whisper suppresses about ninety tokens always and two at the beginning of a text (`suppress_tokens`,
`begin_suppress_tokens`); without them other tokens come out than in the evaluation. Only the last position of the
logits is changed: it is the one that the next token is chosen from. So the probability of silence, which is read
where the transcript starts, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.layouts.nodes import Additions
from pocket_opt.models.whisper.layouts.ports import NO_LIMIT, layer_ports, port


def suppressed_tokens(generation: Mapping[str, Any], vocab: int) -> tuple[list[int], list[int]]:
    """Ids that are never said, and those that no text begins with, of a `generation_config.json`."""
    never, not_first = (
        sorted({token for token in generation.get(key) or () if 0 <= token < vocab})
        for key in ("suppress_tokens", "begin_suppress_tokens")
    )
    return never, not_first


def past_length(graph: ir.Graph) -> ir.Value:
    """How many tokens the caches of our decoder hold, an int64 vector of one element."""
    key, _ = layer_ports(graph, "past")[0]
    return Additions(graph, prefix="past").one("Shape", key, start=2, end=3)


def forbid_tokens(graph: ir.Graph, past: ir.Value, never: list[int], not_first: list[int]) -> None:
    """Let `logits` [batch, length, vocab] be -inf for those tokens in its last position.

    Args:
        past: tokens before this call, an int64 vector of one element; 0 where a text begins.
        not_first: forbidden where `past` is 0.
    """
    add = Additions(graph, prefix="rules")
    add.continue_at_end()
    logits = port(graph, "logits")
    place, shape = graph.outputs.index(logits), logits.shape
    logits.name = "rules/logits"
    ids = add.constant("suppressed", np.array([*never, *not_first], np.int64))
    begins = add.one("Equal", past, add.ints(0))
    count = add.one("Where", begins, add.ints(len(never) + len(not_first)), add.ints(len(never)))
    chosen = add.slice(ids, add.ints(0), count, 0)
    last = add.slice(logits, add.ints(-1), add.ints(NO_LIMIT), 1)
    sizes = add.one("Concat", add.one("Shape", last, start=0, end=2), count, axis=0)
    where = add.one("Expand", chosen, sizes)
    lowest = add.one("ConstantOfShape", sizes, value=ir.tensor(np.array([-np.inf], np.float32)))
    masked = add.one("ScatterElements", last, where, lowest, axis=2)
    before = add.slice(logits, add.ints(0), add.ints(-1), 1)
    result = add.one("Concat", before, masked, axis=1)
    result.name, result.dtype, result.shape = "logits", ir.DataType.FLOAT, shape
    graph.outputs[place] = result
