"""Runs the test graph in a process of its own: `engine_script.py STORE [SLEEP_S]`; prints a line a node."""

from __future__ import annotations

import sys
from pathlib import Path

from pocket_opt.engine import run_graph
from pocket_opt.graph import Node, PassGraph
from pocket_opt.store import Store


def number_graph(sleep_s: float = 0.0, fail: str = "no", value: float = 1.0) -> PassGraph:
    """source -> add -> again, both measured: 1, 2, 4."""
    slow = {"sleep_s": sleep_s}
    return PassGraph(
        [
            Node("source", "fake_source", 1, {"value": value}, {"threads": 2}),
            Node("add", "fake_add", 2, {"amount": 1.0}, slow, {"model": "source"}),
            Node("again", "fake_add", 2, {"amount": 2.0}, {**slow, "fail": fail}, {"model": "add"}),
            Node(
                "number",
                "fake_number",
                1,
                {"batch_size": 8},
                {},
                {"model": "again"},
                kind="measure",
                host="here",
            ),
            Node(
                "baseline",
                "fake_number",
                1,
                {"batch_size": 8},
                {},
                {"model": "source"},
                kind="measure",
                host="here",
            ),
        ]
    )


if __name__ == "__main__":
    sleep_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    for record in run_graph(number_graph(sleep_s), Store(Path(sys.argv[1]))).records:
        print(record.name, record.status, flush=True)
