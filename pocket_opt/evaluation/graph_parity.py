"""How near the graphs of a model without a family are to its source model in PyTorch, on inputs made by their ports.

Both get the same random inputs, one row and two rows of another length; compared is every output that the source model
has under the same name. Graphs that continue a cache, and single parts of a model, have no counterpart in the source
and are left out by name; the passes compare each graph with what it was made from, these too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocket_opt.errors import PocketOptError
from pocket_opt.evaluation import fidelity
from pocket_opt.evaluation.made_inputs import MadeInputs
from pocket_opt.evaluation.result import Metric, write_result
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.worker import silent

SHORTER = 3
"""The second run's inputs are shorter by this divisor: lengths that were not traced."""


@dataclass(frozen=True)
class GraphParityParams(MadeInputs):
    """What to compare on; see MadeInputs.

    Attributes:
        threads: of the runtimes; 0 is their default.
    """

    threads: int = neutral(0)


class GraphParity(Pass[GraphParityParams]):
    """Compares the outputs of graphs with those of the source model."""

    version = 1
    Params = GraphParityParams
    kind = "measure"
    tools = ("numpy", "onnxruntime", "torch", "transformers")
    inputs = ("model", "source")

    def run(
        self, inputs: Inputs, params: GraphParityParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Run both models and write SQNR, cosine and largest error by graph; PocketOptError if nothing compares."""
        from pocket_opt.models.optimum.runner.source_model import GRAPHS
        from pocket_opt.runtimes.graphs import open_graphs

        model, source = (open_graphs(inputs[name], threads=params.threads) for name in ("model", "source"))
        graphs = [name for name, part in inputs["model"].components.items() if part.inputs]
        shared = [name for name in graphs if name in GRAPHS]
        shorter = replace(params, length=max(params.length // SHORTER, 1))
        metrics: dict[str, Metric] = {}
        compared: dict[str, list[str]] = {}
        for done, graph in enumerate(shared, start=1):
            found = fidelity.Comparison()
            for made, batch in ((params, 1), (shorter, 2)):
                feeds = made.of(inputs["model"], graph, batch=batch)
                expected, answer = source.run(graph, feeds), model.run(graph, feeds)
                names = [name for name in answer if name in expected]
                for name in names:
                    found.add(expected[name], answer[name])
                compared[graph] = names
            if found.count:
                metrics |= _metrics(graph, found, compared[graph])
            progress(done, len(shared), "graphs")
        if not metrics:
            raise PocketOptError(
                "no output of the graphs has a counterpart in the source model",
                where=f"graphs {', '.join(graphs)}",
                fix="switch the measurement off: ~nodes.parity",
            )
        left_out = [name for name in graphs if not compared.get(name)]
        return write_result(workdir, "parity", metrics, {"compared": compared, "left_out": left_out})


def _metrics(graph: str, found: fidelity.Comparison, names: list[str]) -> dict[str, Metric]:
    method = f"{', '.join(names)} of graph {graph} against the source model, random inputs, batch 1 and 2"
    table = {
        "sqnr_db": Metric(found.sqnr_db, "dB", found.count, method),
        "cosine": Metric(found.cosine, "", found.count, method),
        "max_error": Metric(found.max_error, "", found.count, method),
        "top1_agreement": Metric(found.top1_agreement, "%", found.rows, method),
    }
    return {f"{graph}_{name}": metric for name, metric in table.items()}


PASS = GraphParity()
