"""Transcribes a whole data set and counts the errors: WER and CER with their interval, empty and looping outputs.

Every clip is decoded in the language that the data set gives for it. Where it gives English translations, the translate
task is run and scored too. Clips without speech do not enter WER; what is heard in them is counted. A model with random
weights has no error rate, so for it only the tokens are recorded, for comparison with the same model's variants.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.artifact import Artifact
from pocket_opt.data.planned import open_planned
from pocket_opt.evaluation import hypotheses
from pocket_opt.evaluation.decoding import DecodingParams, Job, decode, select_jobs
from pocket_opt.evaluation.decoding_shares import decode_in_processes
from pocket_opt.evaluation.error_rates import distinct_tokens, failure_counts, quality_metrics
from pocket_opt.evaluation.hypotheses import TRANSLATE, Hypothesis, write_hypotheses
from pocket_opt.evaluation.looping import is_looping
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.scoring import ENGLISH, character_counts, load_normalizer, word_counts
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import Transcript

NORMALIZER = "normalizer.json"
"""British to American spelling, a file of real Whisper tokenizers."""


@dataclass(frozen=True)
class QualityParams(DecodingParams):
    """What to decode, how, and how many do it.

    Attributes:
        processes: that share the clips; 0: one for each core, which pays where a simulator computes.
    """

    processes: int = neutral(1)

    def shares(self) -> int:
        """How many processes that is here."""
        return self.processes or os.cpu_count() or 1


class Quality(Pass[QualityParams]):
    """Decodes the data set and scores it."""

    version = 3
    Params = QualityParams
    kind = "measure"
    tools = ("executorch", "numpy", "onnxruntime", "openvino", "torch", "transformers", "tokenizers", "jiwer")
    limits = (
        *(f"quality.{name}" for name in ("wer", "wer_ci_high", "cer", "wer_*")),
        *(f"quality.{name}" for name in ("empty_outputs", "looping_outputs", "hallucinations")),
    )

    def run(
        self, inputs: Inputs, params: QualityParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the metrics and `hypotheses.jsonl`."""
        from pocket_opt.runtimes import open_runtime

        model = inputs["model"]
        clips = open_planned(params.data_path, params.data_digest).limit(params.limit)
        runtime = open_runtime(model, threads=params.threads)
        jobs, left_out = select_jobs(runtime.prompt, clips, params)
        if params.shares() > 1:
            transcripts = decode_in_processes(model, jobs, params, params.shares(), progress)
        else:
            transcripts = decode(runtime, jobs, params, progress)
        scorer = Scorer(spelling_table(model))
        said = [scorer.score(job, transcript) for job, transcript in zip(jobs, transcripts, strict=True)]
        write_hypotheses(workdir, said)
        is_random = model.metadata["weights"] == "random"
        metrics = random_metrics(said) if is_random else quality_metrics(said, params.task, scorer.method)
        details: dict[str, Any] = {"decoding": _decoding(params), "left_out": left_out}
        if is_random:
            details["no_error_rate"] = "the weights are random: what the model says means nothing"
        return write_result(workdir, "quality", metrics, details, (hypotheses.FILE,))


class Scorer:
    """Normalizes texts and counts their edits.

    Attributes:
        method: the normalizers in words.
    """

    def __init__(self, spelling: Path | None) -> None:
        self._spelling = spelling
        table = (
            "with the tokenizer's British spelling table" if spelling else "without a British spelling table"
        )
        self.method = (
            f"Whisper normalizers of transformers: English ({table}) for English and for clips of no stated language, "
            "basic for others"
        )

    def score(self, job: Job, transcript: Transcript) -> Hypothesis:
        """The hypothesis of one clip, with its edits unless nothing is left of its reference."""
        clip = job.clip
        reference = (clip.translation if job.task == TRANSLATE else clip.text) or ""
        language = ENGLISH if job.task == TRANSLATE else clip.language or job.language
        normalize = load_normalizer(language, self._spelling)
        expected, heard = normalize(reference), normalize(transcript.text)
        return Hypothesis(
            id=clip.id,
            task=job.task,
            language=clip.language or "",
            condition=clip.condition or "",
            reference=reference,
            hypothesis=transcript.text,
            tokens=tuple(transcript.tokens),
            speech=bool(clip.text.strip()),
            empty=not heard,
            looping=is_looping(heard, expected),
            words=word_counts(expected, heard) if expected else None,
            characters=character_counts(expected, heard) if expected else None,
        )


def random_metrics(said: Sequence[Hypothesis]) -> dict[str, Metric]:
    """What can be said of a model with random weights: that its outputs are not degenerate."""
    counts = failure_counts(said)
    clips = Metric(len(said), "clips", len(said), "clips decoded; random weights, hence no error rate")
    kept = {name: counts[name] for name in ("empty_outputs", "looping_outputs")}
    return {"clips": clips, "distinct_tokens": distinct_tokens(said), **kept}


def spelling_table(model: Artifact) -> Path | None:
    """The model's spelling table, if it has one that says anything."""
    try:
        table = model.file("processor", NORMALIZER)
    except FileNotFoundError:
        return None
    return table if json.loads(table.read_text(encoding="utf-8")) else None


def _decoding(params: QualityParams) -> dict[str, Any]:
    searched = ("beams", "length_penalty", "fallback", "condition_on_previous")
    names = ("language", "task", "timestamps", "max_new_tokens", *searched)
    return {name: getattr(params, name) for name in names}


PASS = Quality()
