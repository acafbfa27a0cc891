"""Runs the model on a device of yours, with the program that every bundle carries: error rates, and times a clip takes.

The model, its runner and the clips are copied to the device, transcribed there one by one, and removed again. Times
are the device's own, of reading nothing but samples in memory to the text; the first clip of a run warms it up. There
must be Python and the runtime of the bundle on the device. Keyed by the address: another device behind the same address
is not noticed, so clear the result (`pocket-opt gc`) where you change it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.artifact import Artifact, link_file
from pocket_opt.data.planned import open_planned
from pocket_opt.devices import open_device
from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation import hypotheses
from pocket_opt.evaluation.decoding import DecodingParams, Job, batches, select_jobs
from pocket_opt.evaluation.error_rates import quality_metrics
from pocket_opt.evaluation.hypotheses import write_hypotheses
from pocket_opt.evaluation.quality import Scorer, random_metrics, spelling_table
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import percentile
from pocket_opt.models.standalone import RUNNER, runner_files
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.scratch import scratch
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.devices.base import Device, Identity
    from pocket_opt.models.whisper.runner.transcript import Transcript

GROUP = "device"
CLIPS = "clips"
AT_ONCE = 32
"""Clips of one call: the model is opened once for so many."""
TIMEOUT = "nodes.on_device.params.call_timeout_s"
PROBE = (
    "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
)


@dataclass(frozen=True)
class OnDeviceParams(DecodingParams):
    """What to decode, as for `quality`, and where.

    Attributes:
        address: of the device.
        python: the command that is Python there, as its shell reads it: "~/env/bin/python", "nice python3".
        call_timeout_s: seconds for 32 clips; a device that takes longer is given up.
    """

    address: str = ""
    python: str = "python3"
    call_timeout_s: float = neutral(3600.0)


@dataclass(frozen=True)
class Heard:
    """A clip's transcript, and the seconds it took."""

    transcript: Transcript
    seconds: float


class OnDevice(Pass[OnDeviceParams]):
    """Copies, transcribes, scores."""

    version = 1
    Params = OnDeviceParams
    kind = "measure"
    tools = ("numpy", "jiwer", "transformers")
    exclusive = True
    limits = ("device.wer", "device.cer", "device.rtf", "device.clip_ms_p50", "device.clip_ms_p95")

    def run(
        self, inputs: Inputs, params: OnDeviceParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the metrics, who the device is, and `hypotheses.jsonl`."""
        model = inputs["model"]
        clips = open_planned(params.data_path, params.data_digest).limit(params.limit)
        jobs, left_out = select_jobs(_vocabulary(model).first_prompt, clips, params)
        device = open_device(params.address)
        identity = device.identity()
        versions = _versions(device, params.python, model)
        with scratch("device") as folder:
            _pack(model, jobs, folder)
            with device.placed(folder) as place:
                heard = _transcribe(device, place, jobs, params, progress)
        scorer = Scorer(spelling_table(model))
        said = [scorer.score(job, one.transcript) for job, one in zip(jobs, heard, strict=True)]
        write_hypotheses(workdir, said)
        is_random = model.metadata["weights"] == "random"
        scores = random_metrics(said) if is_random else quality_metrics(said, params.task, scorer.method)
        details = {
            "device": identity.name,
            "build": identity.build,
            "versions": versions,
            "left_out": left_out,
        }
        metrics = {**scores, **_times(jobs, heard, identity)}
        return write_result(workdir, GROUP, metrics, details, (hypotheses.FILE,))


def _vocabulary(model: Artifact) -> Any:
    from pocket_opt.models.whisper.runner.vocabulary import Vocabulary

    generation = json.loads(model.file("generation", "generation_config.json").read_text(encoding="utf-8"))
    return Vocabulary(model.file("processor", "tokenizer.json"), generation)


def _versions(device: Device, python: str, model: Artifact) -> dict[str, str]:
    """Versions on the device of what the runner needs; PocketOptError names what is missing there."""
    from pocket_opt.runtimes import distributions

    needed = [*distributions(str(model.metadata["runtime"])), "soundfile"]
    if model.metadata.get("session", {}).get("extensions"):
        needed.append("onnxruntime-extensions")
    try:
        found: dict[str, str] = json.loads(device.ask(f"{python} -c {shlex.quote(PROBE)} {' '.join(needed)}"))
    except PocketOptError as error:
        raise PocketOptError(
            f"the device cannot run the bundle's program: {error.what}",
            where=error.where,
            allowed="Python 3.10 or newer on the device, called by device_python",
            fix=f"on the device: {python} -m pip install {' '.join(needed)}",
        ) from None
    return found


def _pack(model: Artifact, jobs: Sequence[Job], folder: Path) -> None:
    """The model with its description, its program, and the clips at its rate."""
    from pocket_opt.models.whisper.runner.audio import as_wave

    for name in {file for part in model.components.values() for file in part.files}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        link_file(model.root / name, folder / name)
    (folder / "artifact.json").write_text(json.dumps(model.describe()), encoding="utf-8")
    for name, source in runner_files(model.metadata).items():
        (folder / name).parent.mkdir(exist_ok=True)
        link_file(source, folder / name)
    (folder / CLIPS).mkdir()
    rate = int(model.metadata["dims"]["sample_rate"])
    for place, job in enumerate(jobs):
        (folder / _clip(place)).write_bytes(as_wave(job.clip.samples(rate), rate).tobytes())


def _clip(place: int) -> str:
    return f"{CLIPS}/{place:05}.wav"


def _transcribe(
    device: Device, place: str, jobs: Sequence[Job], params: OnDeviceParams, progress: Progress
) -> list[Heard]:
    """What the device hears, in the order of the jobs."""
    found: dict[int, Heard] = {}
    for numbers in batches(jobs, AT_ONCE):
        words = [RUNNER, *_flags(jobs[numbers[0]], params), *map(_clip, numbers)]
        command = f"cd {shlex.quote(place)} && {params.python} {shlex.join(words)}"
        printed = device.run(command, timeout_s=params.call_timeout_s, longer=TIMEOUT)
        found.update(zip(numbers, map(_read, _lines(printed, len(numbers), device)), strict=True))
        progress(len(found), len(jobs), "clips on the device")
    return [found[number] for number in range(len(jobs))]


def _flags(job: Job, params: OnDeviceParams) -> Iterable[str]:
    """The request in the words of `run.py`."""
    yield from ("--json", "--task", job.task, "--threads", str(params.threads))
    yield from ("--beams", str(params.beams), "--length-penalty", str(params.length_penalty))
    yield from ("--language", job.language) if job.language else ()
    yield from ("--max-new-tokens", str(params.max_new_tokens)) if params.max_new_tokens else ()
    yield from ("--timestamps",) if params.timestamps else ()
    yield from () if params.fallback else ("--no-fallback",)
    yield from ("--condition-on-previous",) if params.condition_on_previous else ()


def _lines(printed: str, count: int, device: Device) -> list[Mapping[str, Any]]:
    """One JSON object for each clip; what else a device prints is passed over."""
    lines = [line for line in printed.split("\n") if line.startswith("{")]
    try:
        tables = [json.loads(line) for line in lines]
    except ValueError:
        tables = []
    if len(tables) != count:
        raise PocketOptError(
            f"the device answered for {len(tables)} of {count} clips: {' '.join(printed.split())[-300:]}",
            where=f"{device.program}:{device.name}",
            fix="run the bundle there by hand: python3 run.py --json FILE",
        )
    return tables


def _read(table: Mapping[str, Any]) -> Heard:
    from pocket_opt.models.whisper.runner.transcript import Transcript

    transcript = Transcript(str(table["text"]), tuple(table["tokens"]), (), table.get("language"))
    return Heard(transcript, float(table["seconds"]))


def _times(jobs: Sequence[Job], heard: Sequence[Heard], identity: Identity) -> dict[str, Metric]:
    seconds, count = [one.seconds for one in heard], len(heard)
    method = f"from samples to text of one clip after the other, on {identity.name}"
    audio = sum(job.clip.duration_s for job in jobs)
    return {
        **{
            f"clip_ms_p{rank}": Metric(1000 * percentile(seconds, rank), "ms", count, method)
            for rank in (50, 95)
        },
        "rtf": Metric(sum(seconds) / audio, "", count, f"all time over all audio; {method}"),
    }


PASS = OnDevice()
