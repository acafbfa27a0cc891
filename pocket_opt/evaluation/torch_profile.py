"""Profiles the source model in transformers: exclusive time of each module, by hooks, in the groups of `grouping`.

A module's exclusive time is that of its forward call minus those of its children, so the attention itself is what the
attention module spends outside its projections, and "other" is what the containers spend on masks, caches and Python.
Operator types come from torch.profiler in a pass of their own, because it slows small operators down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import ForcedClip
from pocket_opt.evaluation.grouping import MEL, OTHER, NodeTime, module_of
from pocket_opt.evaluation.timing import Plan, Sample, repeat
from pocket_opt.runtimes.base import SpeechRuntime

_CONTAINERS = {
    "WhisperEncoder": "convolution_stem",
    "WhisperEncoderLayer": "residual",
    "WhisperDecoderLayer": "residual",
}
"""What a container computes itself: the encoder its convolutions' GELU, a layer its residual sums."""


class ModuleClock:
    """Collects exclusive times of modules; `phase` labels what is running.

    Attributes:
        times: one entry per forward call, in the order in which the calls ended.
    """

    def __init__(self) -> None:
        self.phase = ""
        self.times: list[NodeTime] = []
        self._names: dict[int, str] = {}
        self._children: list[float] = []
        self._starts: list[float] = []

    def enter(self, module: Any = None) -> None:
        """A forward call begins; the outermost module gives all those inside their names."""
        if module is not None and not self._starts:
            self._names = {id(part): name for name, part in module.named_modules(prefix=_prefix(module))}
        self._children.append(0.0)
        self._starts.append(time.perf_counter())

    def leave(self, name: str, kind: str) -> None:
        """The innermost forward call, of module `name` and class `kind`, has ended."""
        spent = 1e6 * (time.perf_counter() - self._starts.pop())
        own = spent - self._children.pop()
        if self._children:
            self._children[-1] += spent
        group = MEL if self.phase == MEL else _CONTAINERS.get(kind) or module_of(name, kind) or OTHER
        self.times.append(NodeTime(name, kind, self.phase, group, max(own, 0.0)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the forward calls of every torch module in this process."""
        from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

        def before(module: Any, *_: Any) -> None:
            self.enter(module)

        def after(module: Any, *_: Any) -> None:
            kind = type(module).__name__
            self.leave(self._names.get(id(module)) or kind, kind)

        handles = register_module_forward_pre_hook(before), register_module_forward_hook(after)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def profile_torch(
    source: Artifact, clip: ForcedClip, plan: Plan, threads: int
) -> tuple[list[NodeTime], dict[str, float], int]:
    """Module times of passes of `clip`, microseconds a pass by aten operator, and how many passes were timed."""
    from pocket_opt.runtimes import open_runtime

    runtime = open_runtime(source, threads=threads)
    clocks: list[ModuleClock] = []

    def once() -> Sample:
        clocks.append(ModuleClock())
        with clocks[-1].watching():
            _run_clip(runtime, clip, clocks[-1])
        return {}

    timed = repeat(once, plan)
    times = [time for clock in clocks[len(timed.warmups) :] for time in clock.times]
    return times, _operators(runtime, clip), len(timed.samples)


def _prefix(outermost: Any) -> str:
    """The encoder is called by itself; its modules are then named as they are inside the model."""
    return "encoder" if type(outermost).__name__ == "WhisperEncoder" else ""


def _run_clip(runtime: SpeechRuntime, clip: ForcedClip, clock: ModuleClock) -> None:
    clock.phase = MEL
    clock.enter()
    features = runtime.features([clip.audio])
    clock.leave("mel", "WhisperFeatureExtractor")
    clock.phase = "encoder"
    state = runtime.encode(features)
    clock.phase = "prefill"
    _, state = runtime.decode(clip.prompt, state)
    clock.phase = "step"
    for token in clip.tokens:
        _, state = runtime.decode(np.array([[token]], np.int64), state)


def _operators(runtime: SpeechRuntime, clip: ForcedClip) -> dict[str, float]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        _run_clip(runtime, clip, ModuleClock())
    spent = {event.key: float(event.self_cpu_time_total) for event in profiler.key_averages()}
    return {name: time for name, time in spent.items() if name.startswith("aten::")}
