"""Runs a graph against the store: skip what is there, run the rest in workers, record what was done.

A node's failure ends this graph with NodeFailed and leaves nothing in the store; what other nodes made stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pocket_opt import worker
from pocket_opt.artifact import Artifact
from pocket_opt.config.parsing import parse
from pocket_opt.disk import refusal_of
from pocket_opt.errors import PocketOptError
from pocket_opt.graph import Node, PassGraph, key_material
from pocket_opt.passes import load_pass
from pocket_opt.passes.base import execute
from pocket_opt.results import NodeRecord
from pocket_opt.store import Entry, Store

TASK = "pocket_opt.engine:run_node"


class NodeFailed(PocketOptError):
    """A node of the graph failed; `node` names it and the message carries the cause."""

    def __init__(self, node: Node, cause: PocketOptError) -> None:
        super().__init__(
            f"node '{node.name}' (pass {node.pass_name}) failed: {cause.what}",
            where=cause.where,
            allowed=cause.allowed,
            fix=cause.fix,
        )
        self.node, self.cause = node.name, cause
        self.tail = getattr(cause, "tail", "")
        self._made_of = (node, cause)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of

    def __str__(self) -> str:
        return super().__str__() + "".join(f"\n  | {line}" for line in self.tail.splitlines())


class Observer(Protocol):
    """Hears of every node as it goes; the command line shows it, the Python API stays silent."""

    def started(self, node: Node) -> None:
        """`node` is about to be computed."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """The running node has done `done` of `total` `unit`."""

    def finished(self, record: NodeRecord) -> None:
        """A node is there, cached or computed."""


class Silent:
    """An observer that shows nothing."""

    def started(self, node: Node) -> None:
        """See Observer."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """See Observer."""

    def finished(self, record: NodeRecord) -> None:
        """See Observer."""


class Run:
    """The outcome of a graph: a record for every node, and the entries of those that are in the store.

    A node that nothing needed and that was removed from the store is recorded from the lineage of what it led to.
    """

    def __init__(self) -> None:
        self.records: list[NodeRecord] = []
        self.entries: dict[str, Entry] = {}

    def artifact(self, node: str) -> Artifact:
        """The artifact that `node` left in the store."""
        return self.entries[node].artifact


def run_graph(
    graph: PassGraph, store: Store, *, timeout_s: float | None = None, observer: Observer | None = None
) -> Run:
    """Make every result of `graph` exist in `store` and return the records, in order.

    Args:
        timeout_s: limit for one node, in seconds.

    Raises:
        NodeFailed: the first node that failed.
    """
    keys = graph.keys()
    present = {name for name, key in keys.items() if store.get(key) is not None}
    needed = graph.needed(present)
    run, watch = Run(), observer or Silent()
    computed = set()
    for node in graph:
        if node.name not in needed and node.name not in present:
            continue
        entry, status = _obtain(node, keys, run, store, timeout_s, watch)
        run.entries[node.name] = entry
        computed |= {node.name} if status == "run" else set()
        watch.finished(_record(node, entry.key, entry.record, status))
    made = _lineage(run.entries.values())
    for node in graph:
        key, status = keys[node.name], "run" if node.name in computed else "cached"
        if key in made:
            run.records.append(_record(node, key, made[key], status))
    return run


def _obtain(
    node: Node, keys: Mapping[str, str], run: Run, store: Store, timeout_s: float | None, watch: Observer
) -> tuple[Entry, str]:
    key = keys[node.name]
    with store.lock(key):
        entry = store.get(key)
        if entry is not None:
            return entry, "cached"
        watch.started(node)
        try:
            _check_inputs(node, run)
            if load_pass(node.pass_name).exclusive:
                with store.lock("measurement"):
                    return _compute(node, keys, run, store, timeout_s, watch), "run"
            return _compute(node, keys, run, store, timeout_s, watch), "run"
        except PocketOptError as error:
            raise NodeFailed(node, error) from error


def _check_inputs(node: Node, run: Run) -> None:
    """What was there when the run began, so that its inputs were not needed, may have been removed since."""
    lost = [source for source in node.inputs.values() if source not in run.entries]
    if lost:
        raise PocketOptError(
            f"its input '{lost[0]}' was removed from the store while the graph ran",
            where="store",
            fix="run the same command again, and `pocket-opt gc` only when nothing runs",
        )


def _compute(
    node: Node, keys: Mapping[str, str], run: Run, store: Store, timeout_s: float | None, watch: Observer
) -> Entry:
    key = keys[node.name]
    inputs = {edge: run.artifact(source).root for edge, source in node.inputs.items()}
    with store.building(key) as part:
        payload = {
            "pass": node.pass_name,
            "params": {**node.params, **node.neutral},
            "inputs": {edge: str(root) for edge, root in inputs.items()},
            "workdir": str(part),
        }
        start = time.perf_counter()
        reply = worker.call(TASK, payload, timeout_s=timeout_s, on_progress=watch.progress)
        record = {
            "node": node.name,
            "pass": node.pass_name,
            "material": key_material(node, keys),
            "seconds": round(time.perf_counter() - start, 3),
            "peak_bytes": reply.peak_bytes,
            "bytes_before": _first_size(inputs),
            "bytes_after": model_bytes(Artifact.load(part)),
            "did": reply.value,
            "lineage": _lineage(run.entries[source] for source in node.inputs.values()),
        }
        return store.publish(key, part, record)


def run_node(payload: Mapping[str, Any], progress: Any) -> Any:
    """The worker's side of one node: load the inputs, execute the pass, return what it did."""
    step = load_pass(payload["pass"])
    params = parse(step.Params, payload["params"], where=f"parameters of {payload['pass']}")
    inputs = {edge: Artifact.load(Path(root)) for edge, root in payload["inputs"].items()}
    workdir = Path(payload["workdir"])
    try:
        return dict(execute(step, inputs, params, workdir, progress).did)
    except PocketOptError:
        raise
    except Exception as error:
        refusal = refusal_of(error, workdir)
        if refusal is None:
            raise
        raise refusal from error


NOT_THE_MODEL = ("processor", "generation", "client", "overrides", "result")
"""Components that are not counted as model files."""


def model_bytes(artifact: Artifact) -> int:
    """Bytes of an artifact's model files: everything but tokenizer, generation settings and results.

    A file that several components share, as methods of a program do, counts once.
    """
    parts = [part for name, part in artifact.components.items() if name not in NOT_THE_MODEL]
    return sum(
        (artifact.root / file).stat().st_size for file in {name for part in parts for name in part.files}
    )


def _first_size(inputs: Mapping[str, Path]) -> int:
    for root in inputs.values():
        return model_bytes(Artifact.load(root))
    return 0


FACTS = ("seconds", "bytes_before", "bytes_after", "did")


def _lineage(entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """Key -> how it was made, of entries and of everything that they were made from."""
    table: dict[str, dict[str, Any]] = {}
    for entry in entries:
        table |= entry.record.get("lineage", {})
        table[entry.key] = {name: entry.record[name] for name in FACTS}
    return table


def _record(node: Node, key: str, made: Mapping[str, Any], status: Any) -> NodeRecord:
    return NodeRecord(
        name=node.name,
        pass_name=node.pass_name,
        version=node.version,
        kind=node.kind,
        params=dict(node.params),
        inputs=tuple(node.inputs.values()),
        key=key,
        status=status,
        **{name: made[name] for name in FACTS},
    )
