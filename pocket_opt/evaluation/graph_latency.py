"""How long each graph of a model without a family takes, beside the source model on the same inputs.

Variant and source take turns, so that a busy machine slows both; the ratio of the two is the number to trust. One row
of inputs made by the ports (see `made_inputs`); graphs that the source has no counterpart of are timed alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.evaluation.made_inputs import MadeInputs
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.evaluation.timing import Plan, Sample, Timed, percentile, repeat
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.optimum.runner.opening import Model

RANKS = (50, 95)


@dataclass(frozen=True)
class GraphLatencyParams(MadeInputs):
    """How to measure; see MadeInputs.

    Attributes:
        warmup, min_repeats, max_repeats, max_seconds: of each graph, see `timing.Plan`.
        threads: of the runtimes; 0 is their default.
    """

    warmup: int = 3
    min_repeats: int = positive(3)
    max_repeats: int = positive(40)
    max_seconds: float = 8.0
    threads: int = 0


class GraphLatency(Pass[GraphLatencyParams]):
    """Times the graphs of variant and source in turns."""

    version = 1
    Params = GraphLatencyParams
    kind = "measure"
    tools = ("numpy", "onnxruntime", "torch", "transformers")
    inputs = ("model", "source")
    exclusive = True
    limits = ("latency.*_ms_p50", "latency.*_ms_p95", "latency.load_s")

    def run(
        self, inputs: Inputs, params: GraphLatencyParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `<graph>_ms`, `<graph>_source_ms` (p50, p95) and `<graph>_of_source`, the median ratio."""
        from pocket_opt.runtimes.graphs import open_graphs

        model, source = (open_graphs(inputs[name], threads=params.threads) for name in ("model", "source"))
        graphs = [name for name, part in inputs["model"].components.items() if part.inputs]
        metrics = {"load_s": Metric(model.load_seconds, "s", 1, "opening all graphs in a fresh process")}
        for done, graph in enumerate(graphs, start=1):
            feeds = params.of(inputs["model"], graph, batch=1)
            timed = _time(graph, feeds, model, source, params)
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items() if array.size)
            metrics |= _metrics(graph, timed, f"one call with {shapes}; {len(timed.samples)} repeats")
            progress(done, len(graphs), "graphs")
        return write_result(workdir, "latency", metrics, {"threads": params.threads, "graphs": graphs})


def _time(
    graph: str, feeds: dict[str, Any], model: Model, source: Model, params: GraphLatencyParams
) -> Timed:
    from pocket_opt.models.optimum.runner.source_model import GRAPHS

    opened = {"model": model} | ({"source": source} if graph in GRAPHS else {})

    def once() -> Sample:
        times: dict[str, list[float]] = {}
        for name, one in opened.items():
            start = time.perf_counter()
            one.run(graph, feeds)
            times[name] = [1000 * (time.perf_counter() - start)]
        return times

    return repeat(once, Plan(params.warmup, params.min_repeats, params.max_repeats, params.max_seconds))


def _metrics(graph: str, timed: Timed, method: str) -> dict[str, Metric]:
    own, theirs = timed.pooled("model"), timed.pooled("source")
    found = {}
    for name, times in (("", own), ("source_", theirs)):
        if times:
            what = "the source model in PyTorch; " if name else ""
            for rank in RANKS:
                key = f"{graph}_{name}ms_p{rank}"
                found[key] = Metric(percentile(times, rank), "ms", len(times), what + method)
    if theirs:
        ratios = [mine / other for mine, other in zip(own, theirs, strict=True)]
        what = "median ratio to the source model's time in the same turn; "
        found[f"{graph}_of_source"] = Metric(percentile(ratios, 50), "", len(ratios), what + method)
    return found


PASS = GraphLatency()
