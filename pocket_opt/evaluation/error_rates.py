"""The table of quality metrics that follows from the hypotheses of a data set. Pure: no model, no files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pocket_opt.evaluation import bootstrap, looping
from pocket_opt.evaluation.hypotheses import TRANSLATE, Hypothesis
from pocket_opt.evaluation.result import Metric
from pocket_opt.evaluation.scoring import error_rate

Scored = Sequence[Hypothesis]
_NO_SPEECH = "a clip without speech is one whose reference is empty"


def quality_metrics(said: Scored, task: str, normalizer: str) -> dict[str, Metric]:
    """WER and CER over all clips and by group, their interval, and the counts of failed outputs.

    Args:
        said: every hypothesis; those of another task than `task` only give `wer_translate_<language>`.
        normalizer: the text normalizer in words, for the method.
    """
    main = [one for one in said if one.task == task]
    scored = [one for one in main if one.words]
    metrics = {"clips": _count(len(main), len(main), "clips decoded, those without speech included")}
    if scored:
        metrics |= _rates(scored, normalizer) | _interval(scored)
        metrics |= {f"wer_{name}": _wer(part, normalizer) for name, part in groups(scored).items()}
    if task != TRANSLATE:
        metrics |= _translations([one for one in said if one.task == TRANSLATE and one.words], normalizer)
    return metrics | failure_counts(main)


def groups(scored: Scored) -> dict[str, list[Hypothesis]]:
    """Clips by condition, by language, and by both; a group equal to a larger one is left out."""
    languages = sorted({one.language for one in scored if one.language})
    conditions = sorted({one.condition for one in scored if one.condition})
    wanted = [("", condition) for condition in conditions]
    wanted += [(language, "") for language in languages]
    wanted += list(product(languages, conditions))
    found: dict[str, list[Hypothesis]] = {}
    for language, condition in wanted:
        part = [one for one in scored if _belongs(one, language, condition)]
        if part and len(part) < len(scored) and part not in found.values():
            found["_".join(filter(None, (language, condition)))] = part
    return found


def failure_counts(main: Scored) -> dict[str, Metric]:
    """Empty and looping outputs among clips with speech, and words heard in clips without."""
    speech = [one for one in main if one.speech]
    silent = [one for one in main if not one.speech]
    empty = sum(one.empty for one in speech)
    loops = sum(one.looping for one in main)
    found = {
        "empty_outputs": _count(empty, len(speech), "clips with speech whose normalized output is empty"),
        "looping_outputs": _count(loops, len(main), looping.METHOD),
    }
    if silent:
        heard = sum(not one.empty for one in silent)
        found["hallucinations"] = _count(
            heard, len(silent), f"clips without speech with output; {_NO_SPEECH}"
        )
    return found


def distinct_tokens(said: Scored) -> Metric:
    """How many different token ids all outputs together hold: few mean that decoding is degenerate."""
    return Metric(
        len({token for one in said for token in one.tokens}),
        "tokens",
        len(said),
        "different ids in all outputs",
    )


def _belongs(one: Hypothesis, language: str, condition: str) -> bool:
    return language in ("", one.language) and condition in ("", one.condition)


def _rates(scored: Scored, normalizer: str) -> dict[str, Metric]:
    characters = error_rate(one.characters for one in scored if one.characters)
    method = f"jiwer, all edits over all reference characters; {normalizer}; {_NO_SPEECH} and does not enter"
    return {"wer": _wer(scored, normalizer), "cer": Metric(characters, "%", len(scored), method)}


def _wer(scored: Scored, normalizer: str) -> Metric:
    value = error_rate(one.words for one in scored if one.words)
    method = f"jiwer, all edits over all reference words; {normalizer}; {_NO_SPEECH} and does not enter"
    return Metric(value, "%", len(scored), method)


def _interval(scored: Scored) -> dict[str, Metric]:
    counts = [one.words for one in scored if one.words]
    low, high = bootstrap.rate_interval([one.errors for one in counts], [one.length for one in counts])
    return {
        "wer_ci_low": Metric(low, "%", len(counts), bootstrap.METHOD),
        "wer_ci_high": Metric(high, "%", len(counts), bootstrap.METHOD),
    }


def _translations(scored: Scored, normalizer: str) -> dict[str, Metric]:
    languages = sorted({one.language for one in scored})
    parts = {language: [one for one in scored if one.language == language] for language in languages}
    return {f"wer_translate_{name or 'unknown'}": _wer(part, normalizer) for name, part in parts.items()}


def _count(value: int, n: int, method: str) -> Metric:
    return Metric(value, "clips", n, method)
