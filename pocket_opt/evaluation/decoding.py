"""Decodes the clips of a data set: which of them the model can do, for which task, and in batches of one kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pocket_opt.data.dataset import Clip
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation.hypotheses import TRANSCRIBE, TRANSLATE
from pocket_opt.passes.base import Progress, neutral, planned, positive

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import DecodeOptions, SpeechRuntime, Transcript

DETECT = "auto"


@dataclass(frozen=True)
class DecodingParams:
    """What to decode, and how; of every measurement that decodes a data set.

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


def select_jobs(
    prompt: Callable[[DecodeOptions], object], clips: Iterable[Clip], params: DecodingParams
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
    runtime: SpeechRuntime, jobs: Sequence[Job], params: DecodingParams, progress: Progress
) -> list[Transcript]:
    """Transcripts of the jobs, in their order; a batch holds clips of one task and language."""
    from pocket_opt.models.whisper.runner.transcript import Fallback
    from pocket_opt.runtimes.base import DecodeOptions

    found: dict[int, Transcript] = {}
    for batch in batches(jobs, params.batch_size):
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


def _tasks(clip: Clip, task: str) -> tuple[str, ...]:
    """A clip with a translation is translated too, besides being transcribed."""
    translate = (TRANSLATE,) if clip.translation else ()
    return (TRANSCRIBE, *translate) if task == TRANSCRIBE else translate


def _language(clip: Clip, wanted: str | None) -> str | None:
    if wanted is None:
        return clip.language
    return None if wanted == DETECT else wanted


def _can(prompt: Callable[[DecodeOptions], object], job: Job, params: DecodingParams) -> bool:
    from pocket_opt.runtimes.base import DecodeOptions

    try:
        prompt(DecodeOptions(job.language, job.task, params.timestamps))
    except ValueError:
        return False
    return True


def batches(jobs: Sequence[Job], size: int) -> Iterator[list[int]]:
    """Places of jobs of one task and language, at most `size` together."""
    alike: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        alike[job.task, job.language].append(place)
    for places in alike.values():
        yield from (places[first : first + size] for first in range(0, len(places), size))
