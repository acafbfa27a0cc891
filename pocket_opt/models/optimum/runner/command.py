"""The command line of a bundle: what the graphs take and give, and a run on arrays from a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .opening import RequestError, open_model, read_table


def main(directory: Path, arguments: Sequence[str] | None = None) -> int:
    """Run what `arguments` (those of the process without) ask for; the exit code is 2 for a mistake in them."""
    parser = argparse.ArgumentParser(
        prog="python run.py",
        description="Runs a graph of this bundle; without a file, tells what the graphs take.",
    )
    parser.add_argument(
        "inputs", nargs="?", type=Path, help="a .npz file: one array for each input, by its name"
    )
    parser.add_argument("--graph", help="which graph, where there are several")
    parser.add_argument("--output", type=Path, help="write the outputs into this .npz file")
    parser.add_argument("--threads", type=int, default=0, help="threads of the runtime; 0 lets it choose")
    options = parser.parse_args(arguments)
    try:
        table = read_table(directory)
        if options.inputs is None:
            print("\n".join(_ports(table)))
            return 0
        found = _run(directory, table, options)
    except (RequestError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, array in found.items():
        print(f"{name} {array.dtype} {list(array.shape)}")
        print(array)
    if options.output:
        np.savez(options.output, **found)
    return 0


def _run(directory: Path, table: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    graphs = [name for name, part in table["components"].items() if part["inputs"]] or ["model"]
    graph = options.graph or (graphs[0] if len(graphs) == 1 else "")
    if not graph:
        raise RequestError(f"there are several graphs; choose one: --graph {' | '.join(graphs)}")
    with np.load(options.inputs, allow_pickle=False) as file:
        inputs = {name: file[name] for name in file.files}
    wanted = {port["name"] for port in table["components"].get(graph, {}).get("inputs", ())}
    if wanted and wanted != set(inputs):
        raise RequestError(
            f"the graph '{graph}' takes {', '.join(sorted(wanted))}; the file has {', '.join(sorted(inputs))}"
        )
    return open_model(directory, threads=options.threads).run(graph, inputs)


def _ports(table: Mapping[str, Any]) -> Iterator[str]:
    """A line for each input and output of each graph."""
    graphs = {name: part for name, part in table["components"].items() if part["inputs"]}
    if not graphs:
        yield "the source model in PyTorch: the inputs are the arguments of its forward()"
    for name, part in graphs.items():
        yield f"graph {name}"
        for side in ("inputs", "outputs"):
            for port in part[side]:
                yield f"  {side[:-1]:<7}{port['name']} {port['dtype']} {list(port['shape'])}"
