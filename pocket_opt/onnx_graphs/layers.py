"""The layers of ONNX graphs that a precision can be chosen for, and which rule holds for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import is_matrix, linear_layers, load, module_of, require_matches
from pocket_opt.precision import Rule, rule_for

QUANTIZED = ("MatMulInteger", "MatMulNBits", "GatherBlockQuantized")
EVERY = "*"
"""Stands for the components of a model whose graphs are not known when planning."""
EXACT = ("mel",)
"""Components that no precision is chosen for: a front end's tables must stay as they are."""


def names_of(node: ir.Node) -> tuple[str, str]:
    """The names that a pattern may match: the node's own and its module's."""
    return node.name or "", module_of(node)


def rule_of(node: ir.Node, rules: Sequence[Rule]) -> Rule | None:
    """The rule that holds for the layer `node`."""
    return rule_for(names_of(node), rules)


def graphs_of(artifact: Artifact) -> dict[str, ir.Graph]:
    """The ONNX graphs of `artifact` by component, but for those that stay exact."""
    return {
        name: load(artifact.path(name)).graph
        for name, part in artifact.components.items()
        if part.format == "onnx" and name not in EXACT
    }


def named(
    artifact: Artifact, components: Sequence[str], has: Callable[[ir.Graph], object] = linear_layers
) -> tuple[str, ...]:
    """`components`, where `EVERY` stands for all graphs of `artifact` for which `has` finds something.

    Raises:
        PocketOptError: there is no such graph.
    """
    if EVERY not in components:
        return tuple(components)
    found = tuple(name for name, graph in graphs_of(artifact).items() if has(graph))
    if not found:
        raise PocketOptError(
            "no graph of this model has a layer that this pass changes",
            where=f"graphs {', '.join(graphs_of(artifact))}",
            allowed="MatMul with a constant matrix; GPT-2's layers, for one, are exported as Gemm",
            fix="switch the node off: ~nodes.NAME",
        )
    return found


def require_known(artifact: Artifact, rules: Sequence[Rule]) -> None:
    """Raise PocketOptError for a rule whose pattern matches no layer in any graph, quantized already or not."""
    if rules:
        nodes = [node for graph in graphs_of(artifact).values() for node in graph if _is_layer(node)]
        names = [name for node in nodes for name in reversed(names_of(node))]
        require_matches(names, [rule.pattern for rule in rules], "overrides")


def require_unquantized(artifact: Artifact) -> None:
    """Raise PocketOptError for a layer that is quantized already."""
    for component, graph in graphs_of(artifact).items():
        for node in graph:
            if node.op_type in QUANTIZED:
                raise PocketOptError(
                    f"the layer '{node.name}' is quantized already",
                    where=f"component {component}",
                    fix="put the search before the quantizers",
                )


def called_for(
    artifact: Artifact, components: Sequence[str], rules: Sequence[Rule], asks: Callable[[Rule | None], bool]
) -> tuple[str, ...]:
    """`components`, and the graphs beside them with a layer whose rule `asks` for this quantizer."""
    others = [name for name in graphs_of(artifact) if name not in components] if rules else []
    return (
        *components,
        *(name for name in others if _any_layer(load(artifact.path(name)).graph, rules, asks)),
    )


def is_weight_only(rule: Rule | None) -> bool:
    """Whether a rule asks for weights of so many bits and float activations, wherever the layer is."""
    return rule is not None and rule.bits not in (None, "none") and rule.activations in (None, "float")


def is_dynamic(rule: Rule | None) -> bool:
    """Whether a rule asks for an integer product, wherever the layer is."""
    return rule is not None and rule.activations == "dynamic"


def require_nothing_left(graph: ir.Graph, rules: Sequence[Rule]) -> None:
    """Raise PocketOptError for a layer that is to be dynamic and that no `dynamic_int8` took."""
    for node in linear_layers(graph):
        rule = rule_of(node, rules)
        if rule is not None and rule.activations == "dynamic":
            raise PocketOptError(
                f"an override asks for dynamic activations in '{node.name}', and no pass before this made them",
                where=f"component {graph.name}, override '{rule.pattern}'",
                fix="add dynamic_int8 before it (level=HIGH has it), or change the override",
            )


def _any_layer(graph: ir.Graph, rules: Sequence[Rule], asks: Callable[[Rule | None], bool]) -> bool:
    return any(asks(rule_of(node, rules)) for node in linear_layers(graph))


def _is_layer(node: ir.Node) -> bool:
    if node.op_type in QUANTIZED:
        return True
    return (node.op_type == "MatMul" and is_matrix(node.inputs[1])) or (
        node.op_type == "Gather" and is_matrix(node.inputs[0])
    )
