"""Decodes a data set in several processes, each with its share of the batches, for runtimes that leave cores idle.

A simulator of an NPU computes a clip in seconds, most of the time on one core. Batches stay what they are, so every
clip gets the tokens that one process would have given it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt import worker
from pocket_opt.artifact import Artifact
from pocket_opt.data.planned import open_planned
from pocket_opt.evaluation.decoding import DecodingParams, Job, batches, decode, select_jobs
from pocket_opt.passes.base import Progress

if TYPE_CHECKING:
    from pocket_opt.runtimes.base import Transcript

TASK = f"{__name__}:decode_share"


def decode_in_processes(
    model: Artifact, jobs: Sequence[Job], params: DecodingParams, processes: int, progress: Progress
) -> list[Transcript]:
    """Transcripts of the jobs, in their order, without the times of segments.

    Raises:
        WorkerError: one of the processes crashed; the others end, too.
    """
    from pocket_opt.runtimes.base import Transcript

    wanted = {field.name: getattr(params, field.name) for field in fields(DecodingParams)}
    shares = min(processes, len(list(batches(jobs, params.batch_size))))
    payload = {"root": str(model.root), "params": wanted, "shares": shares}
    replies = worker.call_all(
        TASK, [payload | {"share": share} for share in range(shares)], on_progress=progress
    )
    heard = {place: (text, tokens) for reply in replies for place, text, tokens in reply.value}
    return [Transcript(heard[place][0], tuple(heard[place][1]), ()) for place in range(len(jobs))]


def decode_share(payload: Mapping[str, Any], progress: Progress) -> list[tuple[int, str, Sequence[int]]]:
    """The child's side: place, text and tokens of every `shares`-th batch from number `share` on."""
    from pocket_opt.runtimes import open_runtime

    params = DecodingParams(**payload["params"])
    runtime = open_runtime(Artifact.load(Path(payload["root"])), threads=params.threads)
    clips = open_planned(params.data_path, params.data_digest).limit(params.limit)
    jobs, _ = select_jobs(runtime.prompt, clips, params)
    dealt = list(batches(jobs, params.batch_size))[payload["share"] :: payload["shares"]]
    places = [place for batch in dealt for place in batch]
    said = decode(runtime, [jobs[place] for place in places], params, progress)
    return [(place, one.text, one.tokens) for place, one in zip(places, said, strict=True)]
