"""Checks a bundle: complete, unchanged, of the published form, able to run, giving the answers it was measured with.

Files are hashed in this process; the model is loaded and run in a child process, so that a native crash is a finding
and not an end. Clips whose hypotheses are in the bundle are transcribed again where the data set is at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.budget import judge
from pocket_opt.bundle.manifest import read_manifest
from pocket_opt.bundle.publication import CARD, MANIFEST, MEASUREMENTS, resolve_inside
from pocket_opt.bundle.schema import schema_errors
from pocket_opt.errors import PocketOptError
from pocket_opt.identity import file_digest
from pocket_opt.models.sources import OPTIMUM

if TYPE_CHECKING:
    from pocket_opt.evaluation.decoding import Job

SAMPLE_CLIPS = "sample:evaluation"
HYPOTHESES = "hypotheses.jsonl"
QUALITY = "quality"
CLIPS = 24
NOISE_S = 2.0
TASK = "pocket_opt.bundle.validation:transcribe_clips"
GRAPHS_TASK = "pocket_opt.bundle.validation:run_graphs"

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: "manifest", "files", "runs", "answers", "size" or "budget".
        status: "skipped" when the check could not be made, with the reason in `message`.
    """

    check: str
    status: Status
    message: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.status != "failed"


def validate_bundle(
    path: Path, *, data_path: str | Path | None = None, clips: int = CLIPS, timeout_s: float = 600
) -> list[Finding]:
    """Check the bundle at `path`; a finding for every check, whether it passed or not.

    Args:
        data_path: the data set that quality was measured on; None tries the shipped one.
        clips: how many of its clips to transcribe again.
        timeout_s: limit for running the model, in seconds.
    """
    try:
        manifest = read_manifest(path)
        findings = [*_check_manifest(path, manifest)]
        if any(not finding.ok for finding in findings):
            return findings
        findings += _check_files(path, manifest)
    except PocketOptError as error:
        return [Finding("manifest", "failed", str(error))]
    if all(finding.ok for finding in findings):
        findings += [
            *_check_run(path, manifest, data_path or SAMPLE_CLIPS, clips, timeout_s),
            _check_size(path, manifest),
        ]
    return [*findings, _check_budget(manifest)]


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    stored = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["schema_version"]
    problems = schema_errors(manifest)
    yield from (Finding("manifest", "failed", problem) for problem in problems)
    if not problems:
        yield Finding("manifest", "passed", f"schema version {stored}")


def _check_files(path: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    problems = [problem for row in manifest["files"] if (problem := _file_problem(path, row))]
    if not (path / CARD).is_file():
        problems.append(f"{CARD} is missing")
    listed = {row["path"] for row in manifest["files"]}
    for part in manifest["components"].values():
        problems += [
            f"{name} belongs to a component but is not listed" for name in part["files"] if name not in listed
        ]
    if problems:
        return [Finding("files", "failed", problem) for problem in problems]
    return [Finding("files", "passed", f"{len(listed)} files have their SHA-256")]


def _file_problem(path: Path, row: Mapping[str, Any]) -> str | None:
    file = resolve_inside(path, row["path"])
    if not file.is_file():
        return f"{row['path']} is missing"
    size = file.stat().st_size
    if size != row["size"]:
        return f"{row['path']} has {size} bytes, the manifest says {row['size']}"
    return None if file_digest(file) == row["sha256"] else f"{row['path']} was changed: its SHA-256 differs"


def _check_run(
    path: Path, manifest: Mapping[str, Any], data_path: str | Path, clips: int, timeout_s: float
) -> list[Finding]:
    """Transcribe clips with known hypotheses, or else noise, in a child process."""
    from pocket_opt import worker

    payload: dict[str, Any] = {"bundle": str(path)}
    if manifest["metadata"].get("family") == OPTIMUM:
        return [_run_graphs(payload, timeout_s)]
    stored, why = _stored_tokens(path, manifest, data_path)
    if not why:
        params = {**_quality_params(manifest), "data_path": str(data_path)}
        payload |= {"params": params, "clips": clips}
    try:
        found = worker.call(TASK, payload, timeout_s=timeout_s).value
    except PocketOptError as error:
        return [Finding("runs", "failed", str(error))]
    ran = Finding("runs", "passed", f"loaded in {found['load_s']:.2f} s and transcribed {found['what']}")
    return [ran, Finding("answers", "skipped", why) if why else _compare(stored, found["answers"])]


def _run_graphs(payload: Mapping[str, Any], timeout_s: float) -> Finding:
    """Whether the graphs of a model without a family give finite answers to made inputs, in a child process."""
    from pocket_opt import worker

    try:
        found = worker.call(GRAPHS_TASK, payload, timeout_s=timeout_s).value
    except PocketOptError as error:
        return Finding("runs", "failed", str(error))
    return Finding("runs", "passed", f"loaded in {found['load_s']:.2f} s and ran {found['what']}")


def run_graphs(payload: Mapping[str, Any], progress: Any) -> dict[str, Any]:  # noqa: ARG001  (a worker task)
    """The child's side: open the bundle and run every graph; PocketOptError where an output is not finite."""
    import numpy as np

    from pocket_opt.bundle.layout import open_bundle
    from pocket_opt.evaluation.made_inputs import MadeInputs
    from pocket_opt.runtimes.graphs import open_graphs

    artifact = open_bundle(Path(payload["bundle"])).artifact
    model = open_graphs(artifact)
    graphs = [name for name, part in artifact.components.items() if part.inputs]
    for graph in graphs:
        for name, array in model.run(graph, MadeInputs().of(artifact, graph, batch=1)).items():
            if not np.isfinite(array).all():
                raise PocketOptError(f"the output '{name}' of graph '{graph}' is not finite")
    return {"load_s": model.load_seconds, "what": ", ".join(graphs) or "nothing: it is the source model"}


def _stored_tokens(
    path: Path, manifest: Mapping[str, Any], data_path: str | Path
) -> tuple[dict[tuple[str, str], list[int]], str]:
    """(clip, task) -> the tokens it gave when quality was measured; or nothing, and why."""
    from pocket_opt.data.dataset import Dataset

    stored = path / MEASUREMENTS / QUALITY / HYPOTHESES
    params = _quality_params(manifest)
    if not params or not stored.is_file():
        return {}, "the bundle holds no hypotheses: quality was not measured"
    try:
        digest = Dataset.open(data_path, where="data_path").digest()
    except PocketOptError as error:
        return {}, f"the data set is not at hand: {error.what}"
    if digest != params.get("data_digest"):
        return {}, "the data set is not the one that quality was measured on; give its path"
    with stored.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {(row["id"], row["task"]): row["tokens"] for row in rows}, ""


def _quality_params(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the quality measurement; empty if there was none."""
    found = (node["params"] for node in manifest["nodes"] if node["name"] == QUALITY)
    return dict(next(found, {}))


def transcribe_clips(payload: Mapping[str, Any], progress: Any) -> dict[str, Any]:
    """The child's side: load the bundle, transcribe clips as they were measured (or noise), return their tokens."""
    import numpy as np

    from pocket_opt.bundle.loaded import LoadedModel
    from pocket_opt.config.parsing import parse
    from pocket_opt.data.dataset import Dataset
    from pocket_opt.evaluation.decoding import decode, select_jobs
    from pocket_opt.evaluation.quality import QualityParams

    model = LoadedModel(payload["bundle"])
    loaded = {"load_s": model.runtime.load_seconds}
    if "params" not in payload:
        noise = np.random.default_rng(0).normal(0, 0.05, round(NOISE_S * model.runtime.sample_rate))
        heard = model.transcribe(noise.astype(np.float32), max_new_tokens=16).result
        return {**loaded, "what": f"{NOISE_S:g} s of noise ({len(heard.tokens)} tokens)", "answers": []}
    params = parse(QualityParams, payload["params"], where=QUALITY)
    clips = Dataset.open(params.data_path).limit(params.limit)
    jobs, _ = select_jobs(model.runtime.prompt, clips, params)
    jobs = first_batches(jobs, params.batch_size, payload["clips"])
    said = decode(model.runtime, jobs, params, progress)
    answers = [[job.clip.id, job.task, list(one.tokens)] for job, one in zip(jobs, said, strict=True)]
    return {**loaded, "what": f"{len(jobs)} clips and tasks", "answers": answers}


def first_batches(jobs: Sequence[Job], batch_size: int, count: int) -> list[Job]:
    """At least `count` jobs in whole batches of those that were measured, every task and language in turn.

    The ranges of dynamic quantization depend on all clips of a batch, so only the same batches give the same tokens.
    """
    alike: dict[tuple[str, str | None], list[Job]] = {}
    for job in jobs:
        alike.setdefault((job.task, job.language), []).append(job)
    chosen: list[Job] = []
    for first in range(0, max(map(len, alike.values())), batch_size):
        for group in alike.values():
            if len(chosen) < count:
                chosen += group[first : first + batch_size]
    return chosen


def _compare(stored: Mapping[tuple[str, str], list[int]], answers: Sequence[Any]) -> Finding:
    """Equal tokens; one clip in eight may differ, because kernels differ between processors."""
    other = [clip for clip, task, tokens in answers if stored.get((clip, task)) != tokens]
    message = (
        f"{len(answers) - len(other)} of {len(answers)} transcripts have the tokens they had when measured"
    )
    if other:
        message += f"; different: {', '.join(other[:5])}"
    return Finding("answers", "failed" if 8 * len(other) > len(answers) else "passed", message)


def _check_size(path: Path, manifest: Mapping[str, Any]) -> Finding:
    from pocket_opt.artifact import read_description

    size, claimed = (
        read_description(path, manifest).model_mb,
        manifest["metrics"]["size"]["total_mb"]["value"],
    )
    status: Status = "passed" if abs(size - claimed) < 1e-3 else "failed"
    return Finding("size", status, f"the model files have {size:.3f} MB, the manifest says {claimed:.3f} MB")


def _check_budget(manifest: Mapping[str, Any]) -> Finding:
    """The verdict follows from the metrics; being over the budget is no defect of the bundle."""
    limits = {limit["metric"]: limit["limit"] for limit in manifest["budget"]["limits"]}
    verdict, claimed = judge(limits, manifest["metrics"])["verdict"], manifest["budget"]["verdict"]
    status: Status = "passed" if verdict == claimed else "failed"
    text = verdict.replace("_", " ")
    return Finding(
        "budget", status, text if status == "passed" else f"it is {text}, the manifest says {claimed}"
    )
