"""How many bits an operator of a statically quantized graph gets: by what it is, and by the overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pocket_opt.errors import UserError
from pocket_opt.onnx_graphs.files import is_constant
from pocket_opt.onnx_graphs.layers import rule_of
from pocket_opt.onnx_graphs.ranges import Grid
from pocket_opt.precision import Rule


@dataclass(frozen=True)
class Precision:
    """Bits of an operator's activations and weights; `activations` None leaves it float."""

    activations: int | None
    weights: int


@dataclass(frozen=True)
class Bits:
    """Bits of what linear layers read and give, of all other activations, of their weights, and of looked up tables."""

    activations: int
    rest: int
    weights: int
    embedding: int

    def of(self, node: ir.Node, rules: Sequence[Rule]) -> Precision:
        """The precision of a node that computes."""
        rule = rule_of(node, rules) or Rule("*")
        if rule.bits == "none":
            return Precision(None, self.weights)
        if node.op_type == "Gather" and is_constant(node.inputs[0]):
            bits = self.embedding if rule.bits is None else 8
            return Precision(bits, bits)
        given = self.activations if _is_linear(node) else self.rest
        weights = rule.bits or (8 if _hears_features(node) else self.weights)
        return Precision(_levels(rule) or given, int(weights))


@dataclass(frozen=True)
class Scheme:
    """How a graph is quantized.

    Attributes:
        precision: of an operator that computes; what moves data follows its input.
        caches: bits of the caches.
        norms: 8 stores scales of layer norms in 8 bits and what they add in 32; 16 both like activations.
        grid: the grid of an activation, by name and bits.
    """

    precision: Callable[[ir.Node], Precision]
    caches: int
    norms: int
    grid: Callable[[str, int], Grid]


def _levels(rule: Rule) -> int | None:
    return rule.activations if isinstance(rule.activations, int) else None


def _is_linear(node: ir.Node) -> bool:
    return node.op_type in ("Conv", "Gemm") or (node.op_type == "MatMul" and is_constant(node.inputs[1]))


def _hears_features(node: ir.Node) -> bool:
    """Whether it is one of the convolutions over frames, which hold little and lose most."""
    return node.op_type == "Conv" and any(size > 1 for size in node.attributes.get_ints("kernel_shape", ()))


def is_spared(node: ir.Node, rules: Sequence[Rule]) -> bool:
    """Whether an override leaves `node` float."""
    rule = rule_of(node, rules)
    return rule is not None and rule.bits == "none"


def check_static(rules: Sequence[Rule]) -> None:
    """Raise UserError for an override that static quantization cannot carry out."""
    for rule in rules:
        settings = rule.settings
        if (
            not settings.keys() <= {"bits", "activations"}
            or rule.bits == 2
            or isinstance(rule.activations, str)
        ):
            raise UserError(
                f"the override '{rule.pattern}' asks for what static quantization has not: {settings}",
                where="overrides",
                allowed="bits 8, 4 or none; activations 16 or 8",
                fix="change or remove it",
            )
