"""The graph of passes as pure data: named nodes, edges, order, checks and keys. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pocket_opt.errors import UserError, unknown_name
from pocket_opt.identity import digest

KEY_SCHEME = 1


@dataclass(frozen=True)
class Node:
    """One pass in the graph.

    Attributes:
        params: JSON values that enter the key.
        neutral: JSON values that the pass needs but that cannot change its result (paths, threads).
        inputs: edge name -> name of the node whose artifact it takes.
        version, tools: the pass's version and the versions of the packages it declares; they enter the key.
        host: what identifies the machine, for measurements only; enters their key.
        why: the reason this node is on, for people.
    """

    name: str
    pass_name: str
    version: int
    params: Mapping[str, Any] = field(default_factory=dict)
    neutral: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["build", "measure"] = "build"
    host: str | None = None
    why: str = ""


class PassGraph:
    """Nodes in topological order. Raises UserError for duplicate names, dangling edges and cycles."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        given = list(nodes)
        self._nodes = {node.name: node for node in given}
        if len(self._nodes) != len(given):
            twice = sorted({node.name for node in given if sum(n.name == node.name for n in given) > 1})
            raise UserError(
                f"two nodes of the graph have the name '{twice[0]}'", where="nodes", fix="rename one"
            )
        for node in given:
            for edge, source in node.inputs.items():
                if source not in self._nodes:
                    raise unknown_name(
                        "node", source, self._nodes, where=f"nodes.{node.name}, input '{edge}'"
                    )
        self._order = _order(given)

    def __iter__(self) -> Iterator[Node]:
        return (self._nodes[name] for name in self._order)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __getitem__(self, name: str) -> Node:
        if name not in self._nodes:
            raise unknown_name("node", name, self._nodes, where="the graph of this variant")
        return self._nodes[name]

    def keys(self) -> dict[str, str]:
        """The input-addressed key of every node, from its own identity and the keys of its inputs."""
        keys: dict[str, str] = {}
        for node in self:
            keys[node.name] = digest("node", key_material(node, keys))
        return keys

    def needed(self, present: set[str]) -> set[str]:
        """Names of the nodes whose artifact must be had, given those that are `present` in the store.

        Measurements and the builds that no build consumes are results; the others are needed only while a needed
        node that consumes them is absent.
        """
        consumers: dict[str, list[str]] = {name: [] for name in self._order}
        for node in self:
            for source in node.inputs.values():
                consumers[source].append(node.name)
        needed: set[str] = set()
        for name in reversed(self._order):
            is_result = self._nodes[name].kind == "measure" or not any(
                self._nodes[user].kind == "build" for user in consumers[name]
            )
            if is_result or any(user in needed and user not in present for user in consumers[name]):
                needed.add(name)
        return needed


def _order(nodes: list[Node]) -> tuple[str, ...]:
    """Names in topological order, and among those that are ready in the order in which they were given."""
    sorter = TopologicalSorter({node.name: node.inputs.values() for node in nodes})
    rank = {node.name: place for place, node in enumerate(nodes)}
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise UserError(
            f"the graph has a circle: {circle}", where="nodes", fix="change one 'after'"
        ) from error
    order: list[str] = []
    ready: set[str] = set()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        first = min(ready, key=rank.__getitem__)
        ready.remove(first)
        sorter.done(first)
        order.append(first)
    return tuple(order)


def key_material(node: Node, keys: Mapping[str, str]) -> dict[str, Any]:
    """Everything a node's key is made of, as `explain` shows it; `keys` holds those of its inputs."""
    material: dict[str, Any] = {
        "scheme": KEY_SCHEME,
        "pass": node.pass_name,
        "version": node.version,
        "params": dict(node.params),
        "tools": dict(node.tools),
        "inputs": {edge: keys[source] for edge, source in node.inputs.items()},
    }
    return material if node.host is None else {**material, "host": node.host}
