"""What a variant loses against its baseline on the same clips: error rates in points, and equal tokens.

Input edges: the quality measurements of the variant and of the baseline (level NONE). The interval is paired: both
rates are computed on the same resampled clips, which is far narrower than the difference of two intervals. With random
weights there are no error rates, and only the equality of tokens is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation import bootstrap
from pocket_opt.evaluation.hypotheses import Hypothesis, read_hypotheses
from pocket_opt.evaluation.result import Metric, read_result, write_result
from pocket_opt.evaluation.scoring import ErrorCounts, error_rate
from pocket_opt.passes.base import Inputs, NoParams, Outcome, Pass, Progress
from pocket_opt.worker import silent

SHOWN = 20
Pairs = Sequence[tuple[Hypothesis, Hypothesis]]
"""(variant, baseline) for each clip and task."""


class Degradation(Pass[NoParams]):
    """Compares two quality measurements clip by clip."""

    version = 1
    Params = NoParams
    kind = "measure"
    tools = ("numpy",)
    inputs = ("quality", "baseline")
    limits = ("quality.wer_delta", "quality.wer_delta_ci_high", "quality.cer_delta")

    def requires(self, inputs: Inputs, params: NoParams) -> None:  # noqa: ARG002
        """Refuse measurements of different clips, references, tasks or decoding."""
        here, there = (read_hypotheses(inputs[name]) for name in self.inputs)
        _refuse_other_clips([_identity(one) for one in here], [_identity(one) for one in there])
        here_how, there_how = (read_result(inputs[name])["details"]["decoding"] for name in self.inputs)
        if here_how != there_how:
            raise PocketOptError(
                "the variant and its baseline were not decoded the same way",
                where=f"variant: {here_how}; baseline: {there_how}",
                fix="give both quality nodes the same parameters",
            )

    def run(
        self,
        inputs: Inputs,
        params: NoParams,  # noqa: ARG002
        workdir: Path,
        progress: Progress = silent,
    ) -> Outcome:
        """Write the changes of WER and CER and the share of clips with equal tokens."""
        pairs = list(zip(*(read_hypotheses(inputs[name]) for name in self.inputs), strict=True))
        task = read_result(inputs["quality"])["details"]["decoding"]["task"]
        scored = [pair for pair in pairs if pair[0].task == task and pair[0].words and pair[1].words]
        has_rates = all("wer" in read_result(inputs[name])["metrics"] for name in self.inputs)
        metrics = {"tokens_equal": tokens_equal(pairs)}
        if has_rates and scored:
            metrics |= changes(scored)
        progress(len(pairs), len(pairs), "clips")
        return write_result(workdir, "quality", metrics, {"changed": changed_clips(pairs)})


def tokens_equal(pairs: Pairs) -> Metric:
    """Share of clips for which both models generated the same tokens."""
    equal = sum(one.tokens == other.tokens for one, other in pairs)
    method = "clips (over all tasks, those without speech included) with the baseline's tokens"
    return Metric(100 * equal / len(pairs), "%", len(pairs), method)


def changes(scored: Pairs) -> dict[str, Metric]:
    """Changes of WER (with its interval) and CER in points; positive means worse than the baseline."""
    words = [(one.words, other.words) for one, other in scored if one.words and other.words]
    characters = [
        (one.characters, other.characters) for one, other in scored if one.characters and other.characters
    ]
    low, high = bootstrap.paired_interval(
        [one.errors for one, _ in words],
        [other.errors for _, other in words],
        [one.length for one, _ in words],
    )
    method, paired = (
        "rate of the variant minus that of its baseline, same clips",
        f"paired {bootstrap.METHOD}",
    )
    n = len(scored)
    return {
        "wer_delta": Metric(_change(words), "points", n, method),
        "wer_delta_ci_low": Metric(low, "points", n, paired),
        "wer_delta_ci_high": Metric(high, "points", n, paired),
        "cer_delta": Metric(_change(characters), "points", n, method),
    }


def changed_clips(pairs: Pairs) -> list[dict[str, str]]:
    """The clips with other tokens than the baseline's, those that lost most words first, `SHOWN` at most."""
    changed = [(one, other) for one, other in pairs if one.tokens != other.tokens]
    changed.sort(key=lambda pair: _word_errors(pair[1]) - _word_errors(pair[0]))
    return [
        {
            "id": one.id,
            "task": one.task,
            "reference": one.reference,
            "baseline": other.hypothesis,
            "variant": one.hypothesis,
        }
        for one, other in changed[:SHOWN]
    ]


def _word_errors(said: Hypothesis) -> int:
    return said.words.errors if said.words else 0


def _change(counts: Sequence[tuple[ErrorCounts, ErrorCounts]]) -> float:
    return error_rate(one for one, _ in counts) - error_rate(other for _, other in counts)


def _identity(said: Hypothesis) -> tuple[str, str, str]:
    return said.task, said.id, said.reference


def _refuse_other_clips(here: list[tuple[str, str, str]], there: list[tuple[str, str, str]]) -> None:
    if here == there:
        return
    odd = sorted(set(here) ^ set(there))
    example = f"; for example {odd[0][1]} ({odd[0][0]})" if odd else "; the same clips in another order"
    raise PocketOptError(
        "the variant and its baseline were not measured on the same clips",
        where=f"variant: {len(here)} clips, baseline: {len(there)} clips{example}",
        fix="measure both on the same data set with the same limit",
    )


PASS = Degradation()
