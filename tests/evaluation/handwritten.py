"""Hypotheses written by hand, scored as the quality measurement does, without normalization."""

from __future__ import annotations

from pocket_opt.evaluation.hypotheses import TRANSCRIBE, Hypothesis
from pocket_opt.evaluation.looping import is_looping
from pocket_opt.evaluation.scoring import character_counts, word_counts


def said(
    reference: str, hypothesis: str, language: str = "en", condition: str = "clean", task: str = TRANSCRIBE
) -> Hypothesis:
    return Hypothesis(
        id=f"{reference}.wav",
        task=task,
        language=language,
        condition=condition,
        reference=reference,
        hypothesis=hypothesis,
        tokens=tuple(map(ord, hypothesis)),
        speech=bool(reference),
        empty=not hypothesis,
        looping=is_looping(hypothesis, reference),
        words=word_counts(reference, hypothesis) if reference else None,
        characters=character_counts(reference, hypothesis) if reference else None,
    )
