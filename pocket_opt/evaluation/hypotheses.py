"""What a model said about each clip of a data set, beside what it should have said: one JSON line per clip and task."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.result import COMPONENT
from pocket_opt.evaluation.scoring import ErrorCounts

FILE = "hypotheses.jsonl"
TRANSCRIBE = "transcribe"
TRANSLATE = "translate"


@dataclass(frozen=True)
class Hypothesis:
    """One decoded clip.

    Attributes:
        id: the clip's file, relative to the data set.
        task: "transcribe" or "translate".
        language, condition: of the clip; "" where the data set gives none.
        reference, hypothesis: texts as they are, not normalized. The reference of a translation is the translation.
        tokens: generated ids without prompt and end token.
        speech: whether somebody speaks in the clip (its transcript is not empty).
        empty: whether nothing is left of the hypothesis after normalization.
        looping: whether the hypothesis repeats itself (see `looping`).
        words, characters: edits after normalization; None where nothing is left of the reference.
    """

    id: str
    task: str
    language: str
    condition: str
    reference: str
    hypothesis: str
    tokens: tuple[int, ...]
    speech: bool
    empty: bool
    looping: bool
    words: ErrorCounts | None
    characters: ErrorCounts | None


def write_hypotheses(workdir: Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write `workdir/hypotheses.jsonl`."""
    with (workdir / FILE).open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(said), ensure_ascii=False) + "\n" for said in hypotheses)


def read_hypotheses(measurement: Artifact) -> list[Hypothesis]:
    """The lines of a quality measurement, in the order of the data set."""
    with measurement.file(COMPONENT, FILE).open(encoding="utf-8") as lines:
        return [_parse(line) for line in lines]


def _parse(line: str) -> Hypothesis:
    table = json.loads(line)
    for unit in ("words", "characters"):
        table[unit] = ErrorCounts(**table[unit]) if table[unit] else None
    return Hypothesis(**{**table, "tokens": tuple(table["tokens"])})
