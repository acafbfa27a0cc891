"""The graph as data: order, checks, keys and which nodes are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pocket_opt.errors import UserError
from pocket_opt.graph import Node, PassGraph, key_material


def node(name: str, *sources: str, kind: str = "build", **fields: object) -> Node:
    inputs = dict(zip(("model", "other"), sources, strict=False))
    return Node(name, f"{name}_pass", 1, inputs=inputs, kind=kind, **fields)  # type: ignore[arg-type]


def chain() -> list[Node]:
    """source -> export -> fuse -> fp16, measured by quality; the source measured by baseline; delta of both."""
    return [
        node("fp16", "fuse"),
        node("quality", "fp16", kind="measure", host="here"),
        node("source"),
        node("delta", "quality", "baseline", kind="measure", host="here"),
        node("fuse", "export"),
        node("export", "source"),
        node("baseline", "source", kind="measure", host="here"),
    ]


def test_nodes_come_after_what_they_take() -> None:
    graph = PassGraph(chain())
    order = [item.name for item in graph]
    assert sorted(order) == sorted(item.name for item in chain())
    for item in graph:
        assert all(order.index(source) < order.index(item.name) for source in item.inputs.values())
    assert len(graph) == 7
    assert "fuse" in graph
    assert "fuze" not in graph
    assert graph["fuse"].pass_name == "fuse_pass"


def test_a_name_that_is_not_there_ends_with_the_nearest() -> None:
    with pytest.raises(UserError, match="there is no node 'fuze', did you mean 'fuse'"):
        PassGraph(chain())["fuze"]


def test_a_dangling_edge_names_node_edge_and_nearest() -> None:
    with pytest.raises(UserError, match="there is no node 'exprot', did you mean 'export'") as caught:
        PassGraph([node("source"), node("export", "source"), node("fuse", "exprot")])
    assert caught.value.where == "nodes.fuse, input 'model'"


def test_a_circle_is_named() -> None:
    with pytest.raises(UserError, match="the graph has a circle: .*fuse.*") as caught:
        PassGraph([node("source"), node("fuse", "fp16"), node("fp16", "fuse")])
    assert "fp16" in caught.value.what


def test_a_node_that_takes_itself_is_a_circle() -> None:
    with pytest.raises(UserError, match="circle: fuse -> fuse"):
        PassGraph([node("fuse", "fuse")])


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two nodes of the graph have the name 'fuse'"):
        PassGraph([node("fuse"), node("export"), node("fuse")])


def test_node_keys_are_pinned() -> None:
    graph = PassGraph(
        [
            Node("source", "load_source", 3, {"digest": "0" * 64}, {"path": "/anywhere"}),
            Node(
                "export",
                "export_onnx",
                1,
                {"decoder": "kv_cache"},
                {},
                {"model": "source"},
                {"onnx": "1.23.0"},
            ),
            Node("speed", "latency", 2, {"repeats": 5}, {}, {"model": "export"}, {}, "measure", "a machine"),
        ]
    )
    assert graph.keys() == {
        "source": "d128ddc9306a889b024fff896f18816c522c23523ebeabe5f93bc671a94b60e5",
        "export": "4f164386347447b69308cd0b4afd3d2fc357c43ee2c5c6b6b13d716e8d264f6b",
        "speed": "9574498790f4aa9c8b24074f7481ecaf13914237dad0e0f5d1d51ad1f0dc205d",
    }


def _key(changed: Node, *before: Node) -> str:
    return PassGraph([*before, changed]).keys()[changed.name]


@pytest.mark.parametrize(
    "change",
    [
        {"pass_name": "other"},
        {"version": 2},
        {"params": {"bits": 8}},
        {"tools": {"onnx": "2"}},
        {"inputs": {"other": "source"}},
        {"host": "there"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_can_change_the_result_changes_the_key(change: dict[str, object]) -> None:
    source, export = node("source"), node("export", "source", params={"bits": 4}, tools={"onnx": "1"})
    assert _key(replace(export, **change), source) != _key(export, source)  # type: ignore[arg-type]


def test_what_cannot_change_the_result_leaves_the_key() -> None:
    source, export = node("source"), node("export", "source")
    same = replace(export, name="exported", neutral={"threads": 4}, why="told so", kind="measure")
    assert _key(same, source) == _key(export, source)
    assert _key(export, replace(source, name="source", neutral={"path": "/b"})) == _key(export, source)


def test_a_change_upstream_changes_every_key_downstream() -> None:
    before = PassGraph(chain()).keys()
    after = PassGraph(
        [replace(item, version=2) if item.name == "export" else item for item in chain()]
    ).keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"export", "fuse", "fp16", "quality", "delta"}


def test_key_material_is_what_explain_shows() -> None:
    item = node("speed", "export", kind="measure", host="here", params={"n": 1})
    material = key_material(item, {"export": "f" * 64})
    assert material["inputs"] == {"model": "f" * 64}
    assert material["host"] == "here"
    assert material["params"] == {"n": 1}
    assert "host" not in key_material(node("export", "source"), {"source": "0"})


RESULTS = {"fp16", "quality", "delta", "baseline"}


@pytest.mark.parametrize(
    ("present", "needed"),
    [
        ((), {*RESULTS, "source", "export", "fuse"}),
        (("source", "export", "fuse", "fp16", "quality", "delta", "baseline"), RESULTS),
        (("fp16", "quality", "delta", "baseline"), RESULTS),
        (("fuse",), {*RESULTS, "fuse", "source"}),
        (("fp16", "delta", "quality"), {*RESULTS, "source"}),
        (("export", "quality", "baseline"), {*RESULTS, "export", "fuse"}),
    ],
)
def test_only_what_a_missing_result_needs_is_needed(present: tuple[str, ...], needed: set[str]) -> None:
    assert PassGraph(chain()).needed(set(present)) == needed
