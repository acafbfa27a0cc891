"""Transcribes a whole data set and counts the errors: WER and CER with their interval, empty and looping outputs.

Every clip is decoded in the language that the data set gives for it. Where it gives English translations, the translate
task is run and scored too. Clips without speech do not enter WER; what is heard in them is counted. A model with random
weights has no error rate, so for it only the tokens are recorded, for comparison with the same model's variants.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact
from pocket_opt.data.dataset import Clip
from pocket_opt.data.planned import open_planned
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation import hypotheses
from pocket_opt.evaluation.error_rates import distinct_tokens, failure_counts, quality_metrics
from pocket_opt.evaluation.hypotheses import TRANSCRIBE, TRANSLATE, Hypothesis, write_hypotheses
from pocket_opt.evaluation.looping import is_looping
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.scoring import ENGLISH, character_counts, load_normalizer, word_counts
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, planned, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime, Transcript

DETECT = "auto"
NORMALIZER = "normalizer.json"
"""British to American spelling, a file of real Whisper tokenizers."""


@dataclass(frozen=True)
class QualityParams:
    """What to decode, and how.

    Attributes:
        data_path: directory of the data set.
        data_digest: its digest; enters the key in place of the path.
        language: a code for all clips; None: as the data set says (detected where it says nothing); "auto": detected.
        task: "transcribe" (translations, where given, are scored besides) or "translate" (only these).
        timestamps: decode with timestamps.
        batch_size: clips decoded together.
        max_new_tokens: limit a window; None: what the model allows.
        beams: of the beam search, 1 to 5; 1 is greedy decoding.
        length_penalty: of the beam search.
        fallback: in clips longer than a window, decode bad windows again at higher temperatures.
        condition_on_previous: in clips longer than a window, tell each window what was said before it.
        limit: clips, spread evenly over the data set; None: all.
        threads: of the runtime; 0 is its default.
    """

    data_path: str = neutral("", instead="data.evaluation.path")
    data_digest: str = planned("", instead="data.evaluation.path")
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    timestamps: bool = False
    batch_size: int = positive(8)
    max_new_tokens: int | None = None
    beams: int = field(default=1, metadata={"at_least": 1, "at_most": 5})
    length_penalty: float = 1.0
    fallback: bool = True
    condition_on_previous: bool = False
    limit: int | None = None
    threads: int = neutral(0)


@dataclass(frozen=True)
class Job:
    """One clip to decode: for what task, and in which language (None: detect it)."""

    clip: Clip
    task: str
    language: str | None


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


def select_jobs(
    prompt: Callable[[DecodeOptions], object], clips: Iterable[Clip], params: QualityParams
) -> tuple[list[Job], dict[str, int]]:
    """What to decode, and how many clips of which language or task the model cannot do.

    Args:
        prompt: gives the model's prompt for a request; ValueError where it has none.

    Raises:
        PocketOptError: nothing is left.
    """
    jobs: list[Job] = []
    left_out: dict[str, int] = defaultdict(int)
    for clip in clips:
        for task in _tasks(clip, params.task):
            job = Job(clip, task, _language(clip, params.language))
            if _can(prompt, job, params):
                jobs.append(job)
            else:
                left_out[f"{task} {job.language or ''}".strip()] += 1
    if not jobs:
        raise PocketOptError(
            f"no clip of the data set can be decoded for the task '{params.task}'",
            where=f"left out: {dict(left_out)}" if left_out else "the data set gives no translations",
            fix="choose a data set in the model's languages, or another task",
        )
    return jobs, dict(left_out)


def decode(
    runtime: SpeechRuntime, jobs: Sequence[Job], params: QualityParams, progress: Progress
) -> list[Transcript]:
    """Transcripts of the jobs, in their order; a batch holds clips of one task and language."""
    from pocket_opt.models.whisper.runner.transcript import Fallback
    from pocket_opt.runtimes.base import DecodeOptions

    found: dict[int, Transcript] = {}
    for batch in _batches(jobs, params.batch_size):
        task, language = jobs[batch[0]].task, jobs[batch[0]].language
        options = DecodeOptions(
            language,
            task,
            params.timestamps,
            params.max_new_tokens,
            params.beams,
            params.length_penalty,
            Fallback() if params.fallback else None,
            params.condition_on_previous,
        )
        audio = [jobs[place].clip.samples(runtime.sample_rate) for place in batch]
        found.update(zip(batch, runtime.transcribe(audio, options), strict=True))
        progress(len(found), len(jobs), "clips")
    return [found[place] for place in range(len(jobs))]


def random_metrics(said: Sequence[Hypothesis]) -> dict[str, Metric]:
    """What can be said of a model with random weights: that its outputs are not degenerate."""
    counts = failure_counts(said)
    clips = Metric(len(said), "clips", len(said), "clips decoded; random weights, hence no error rate")
    kept = {name: counts[name] for name in ("empty_outputs", "looping_outputs")}
    return {"clips": clips, "distinct_tokens": distinct_tokens(said), **kept}


def _tasks(clip: Clip, task: str) -> tuple[str, ...]:
    """A clip with a translation is translated too, besides being transcribed."""
    translate = (TRANSLATE,) if clip.translation else ()
    return (TRANSCRIBE, *translate) if task == TRANSCRIBE else translate


def _language(clip: Clip, wanted: str | None) -> str | None:
    if wanted is None:
        return clip.language
    return None if wanted == DETECT else wanted


def _can(prompt: Callable[[DecodeOptions], object], job: Job, params: QualityParams) -> bool:
    from pocket_opt.runtimes.base import DecodeOptions

    try:
        prompt(DecodeOptions(job.language, job.task, params.timestamps))
    except ValueError:
        return False
    return True


def _batches(jobs: Sequence[Job], size: int) -> Iterator[list[int]]:
    """Places of jobs of one task and language, at most `size` together."""
    alike: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        alike[job.task, job.language].append(place)
    for places in alike.values():
        yield from (places[first : first + size] for first in range(0, len(places), size))


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
