"""What the token loop and a search have in common; the searches are `greedy_search` and `beam_search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from pocket_opt.models.whisper.all_in_one.choice_graph import Said
from pocket_opt.models.whisper.graph_builder import GraphBuilder


@dataclass(frozen=True)
class Steps:
    """What the loop gives.

    Attributes:
        tokens: int64 `[batch, length]`, the end token and padding behind it included.
        logprob: mean log probability `[batch]` of the tokens, that of the end token included.
        language: id `[batch]`; None for an English-only model.
        silence: probability `[batch]` of the no-speech token.
    """

    tokens: ir.Value
    logprob: ir.Value
    language: ir.Value | None
    silence: ir.Value


@dataclass(frozen=True)
class Moment:
    """A step of the loop, when the decoder has been run.

    Attributes:
        raw: the decoder's logits `[rows, vocab]`.
        scores: the same, -inf where the step alone forbids a token.
        said: what rows have said.
    """

    raw: ir.Value
    scores: ir.Value
    said: Said


class Search(Protocol):
    """A search. Rows are what the decoder sees side by side: one or several a clip.

    Attributes:
        rows: their number, a vector of one element.
        row_dim: the name of that dimension; "batch" where a row is a clip.
        per_step: results of which the loop collects one of every step, rows of int64 for "token", else of float32.
    """

    rows: ir.Value
    row_dim: str
    per_step: tuple[str, ...]

    def of_rows(self, graph: GraphBuilder, values: ir.Value) -> ir.Value:
        """`values` `[batch, ...]` as `[rows, ...]`."""
        ...

    def begin(self, graph: GraphBuilder) -> dict[str, ir.Value]:
        """What is carried from step to step, at the first."""
        ...

    def advance(
        self, body: GraphBuilder, moment: Moment, state: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        """The next `token` `[rows]`, what is carried and collected, and `order` `[rows]` if rows change places."""
        ...

    def going_on(self, results: Mapping[str, ir.Value]) -> ir.Value:
        """Of the results, the flags of which one is enough for a further step."""
        ...

    def steps(self, graph: GraphBuilder, found: Mapping[str, ir.Value], first: ir.Value) -> Steps:
        """What the loop gives, by what it `found`; `first` as in `Masks`."""
        ...


def filled(graph: GraphBuilder, shape: ir.Value, value: float) -> ir.Value:
    """A tensor of `shape` (a vector) full of `value`; float32 of a fraction, else int64 or bool."""
    kind = np.float32 if isinstance(value, float) else None
    return graph.op("ConstantOfShape", shape, value=ir.tensor(np.array([value], kind)))


def without_prompt(graph: GraphBuilder, rows: ir.Value, first: ir.Value) -> ir.Value:
    """`rows` `[batch, steps]` without the steps that read the prompt."""
    begin = graph.op("Unsqueeze", graph.op("Sub", graph.scalar(1), first), graph.ints(0))
    return graph.op("Slice", rows, begin, graph.ints(np.iinfo(np.int64).max), graph.ints(1))
