"""Modules captured, given to XNNPACK and written as one program; which operators it took is counted."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pocket_opt.errors import PocketOptError
from pocket_opt.executorch_graphs.methods import Method

NO_WORK = ("getitem",)
"""Not operators: they name one of a delegate's results."""


def lower(captured: Mapping[str, Any], constants: Mapping[str, int], path: Path) -> dict[str, Any]:
    """Give `captured` (`torch.export` of each method) to XNNPACK and write the program.

    Returns:
        For each method the operators by type that are delegated and that are not, and the delegated parts.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    with quiet():
        edge = to_edge_transform_and_lower(
            dict(captured), partitioner=[XnnpackPartitioner()], constant_methods=dict(constants)
        )
        report = {name: delegation(edge.exported_program(name).graph_module) for name in captured}
        # Caches are read where they lie: a planned input would be copied at each call.
        planning = MemoryPlanningPass(alloc_graph_input=False)
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    with path.open("wb") as file:
        program.write_to_file(file)
    return report


def capture(method: Method) -> Any:
    """`torch.export` of a method.

    Raises:
        PocketOptError: it refuses the module, for instance because its steps depend on what it computes.
    """
    import torch

    try:
        with quiet(), torch.no_grad():
            return torch.export.export(method.module.eval(), method.examples())
    except Exception as error:  # of many types, which torch does not list
        raise PocketOptError(
            f"torch.export refuses this model: {_reason(error)}",
            where=f"module {type(method.module).__name__}",
            allowed="modules whose steps do not depend on what they compute",
            fix="choose target=torchscript, whose programs keep loops and branches",
        ) from error


def _reason(error: Exception) -> str:
    """What torch says first, without the graph that it prints before, and its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def delegation(graph: Any) -> dict[str, Any]:
    """Operators that XNNPACK takes and those left to the runtime's own kernels, by type; parts that it takes."""
    from executorch.devtools.backend_debug import get_delegation_info

    found = get_delegation_info(graph)
    inside, outside = dict[str, int](), dict[str, int]()
    for name, counts in sorted(found.delegation_by_operator.items()):
        if name in NO_WORK:
            continue
        if counts.delegated:
            inside[name] = counts.delegated
        if counts.non_delegated:
            outside[name] = counts.non_delegated
    return {"parts": found.num_delegated_subgraphs, "delegated": inside, "not_delegated": outside}


def shares(report: Mapping[str, Any]) -> dict[str, Any]:
    """Operators that delegates took and did not take, over all methods, and their share."""
    taken, left = (
        sum(sum(of[side].values()) for of in report.values()) for side in ("delegated", "not_delegated")
    )
    return {"delegated": taken, "not_delegated": left, "delegated_share": round(taken / (taken + left), 4)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of the exporter, which a reader can do nothing about."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
