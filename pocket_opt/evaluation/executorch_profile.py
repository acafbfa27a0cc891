"""Profiles an ExecuTorch program: the runner's own backend, with an event tracer, taken through a forced clip.

XNNPACK names its operators by type and place ("Fully Connected (NC, F32) GEMM #12") and not by module, so modules are
told where the type tells them; the table by operator type is the one to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip
from pocket_opt.evaluation.grouping import MEL, OTHER, NodeTime
from pocket_opt.evaluation.timing import Plan, Sample, repeat
from pocket_opt.models.whisper.runner.executorch_backend import ExecutorchBackend, native_words

ENCLOSING = ("Method::execute", "DELEGATE_CALL", "OPERATOR_CALL")
"""Events that last as long as those inside of them."""
PLACE = re.compile(r" #\d+$")
MODULES = (
    ("attention", re.compile("Batch Matrix Multiply|Softmax")),
    ("norm", re.compile("Reciprocal Square Root|Square|Subtract")),
    ("embedding", re.compile("index_select")),
)


def profile_executorch(
    model: Artifact, clip: ForcedClip, plan: Plan, threads: int, scratch: Path
) -> tuple[list[NodeTime], int]:
    """Kernel times of passes of `clip`, and how many passes they are."""
    backend = ExecutorchBackend(model.root, model.describe(), threads, traced=True)

    def once() -> Sample:
        state = backend.encode(backend.features(clip.audio[None]))
        _, state = backend.decode(clip.prompt, state)
        for token in clip.tokens:
            _, state = backend.decode(np.array([[token]], np.int64), state)
        return {}

    timed = repeat(once, plan)
    passes, skipped = len(timed.samples), len(timed.warmups)
    times: list[NodeTime] = []
    for name, trace in backend.write_traces(scratch).items():
        for event, spent in _events(trace):
            times += _node_times(name, event, spent, skipped, passes + skipped, len(clip.tokens))
    return times, passes


def _events(trace: Path) -> Iterator[tuple[str, Sequence[float]]]:
    """Names of what a method ran, and the milliseconds of each call."""
    with native_words():
        from executorch.devtools import Inspector

        blocks = Inspector(etdump_path=str(trace)).event_blocks
    for block in blocks:
        for event in block.events if block.name == "Execute" else ():
            if event.perf_data and not event.name.startswith(ENCLOSING):
                yield event.name, event.perf_data.raw


def _node_times(
    method: str, event: str, spent: Sequence[float], skipped: int, passes: int, steps: int
) -> Iterator[NodeTime]:
    """The calls of one operator after `skipped` of all `passes`, in their phases."""
    calls = len(spent) // passes
    kind = PLACE.sub("", event)
    known = next((module for module, pattern in MODULES if pattern.search(event)), OTHER)
    for place, milliseconds in enumerate(spent):
        if place < skipped * calls:
            continue
        phase = method
        if method == "decoder":
            phase = "prefill" if place % calls < calls - steps else "step"
        yield NodeTime(event, kind, phase, MEL if phase == MEL else known, 1000 * milliseconds)
