"""The layers of a model that a search chooses a precision for, alone or in blocks, and what forms cost in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import constant, linear_layers, module_of
from pocket_opt.onnx_graphs.layers import graphs_of
from pocket_opt.onnx_graphs.static_values import TEXT, complete
from pocket_opt.onnx_graphs.widening import BITS, BLOCK
from pocket_opt.passes.quantize_embedding import find_tied_table
from pocket_opt.precision import Rule

FLOAT = "float"
DECODER = "decoder"
_WEIGHTS = {"activations": "float", "symmetric": False, "algorithm": "k_quant"}
FORMS: Mapping[str, Mapping[str, Any]] = {
    FLOAT: {"bits": "none"},
    "int8_dynamic": {"bits": 8, "activations": "dynamic"},
    "int4_dynamic": {"bits": 4, "activations": "dynamic"},
    "int8": {"bits": 8, "block_size": 32, "activations": "float"},
    "int4": {"bits": 4, "block_size": 32, **_WEIGHTS},
    "int2": {"bits": 2, "block_size": 16, **_WEIGHTS},
    "static8": {"bits": 8},
    "static4": {"bits": 4},
}
"""What a layer can be stored as; the name, and what its override says."""

EMBEDDING_FORMS = ("int8", "int4")
"""Forms that the table which lookup and head share can have (symmetric, because its lookup knows no zero points)."""

STATIC = ("static8", "static4")
"""Forms of a graph that is quantized whole, with a scale for each output channel; there all layers start in the first,
because a processor of integers may have no floats."""
SCALE_BYTES = 4

MANY = 100
"""Layers from which on whole blocks are chosen: attention or feed-forward part of one layer of the network."""


@dataclass(frozen=True)
class Layer:
    """One matrix: its module, the graph it is in, and [K, N], or [d_model, vocabulary] for the tied embedding.

    Attributes:
        graphs: that hold it, each with bytes of its own.
    """

    name: str
    component: str
    shape: tuple[int, int]
    embedding: bool = False
    graphs: int = 1

    def bytes_as(self, form: str) -> int:
        """Bytes of weights, scales and zero points; floats in 16 bits."""
        inputs, outputs = self.shape
        settings = FORMS[form]
        bits, dynamic = settings["bits"], settings.get("activations") == "dynamic"
        if bits == "none":
            return self.graphs * 2 * inputs * outputs
        if form in STATIC:
            return int(self.graphs * outputs * (inputs * bits // 8 + SCALE_BYTES))
        columns = 2 * outputs if dynamic else 0
        size = BLOCK if dynamic and bits == BITS else settings.get("block_size")
        if size is None:
            return inputs * outputs + columns
        blocks = -(-inputs // size)
        zeros = not self.embedding and not settings.get("symmetric", not dynamic)
        zero_points = -(-blocks * bits // 8) if zeros else 0
        return int(outputs * (blocks * (size * bits // 8 + 2) + zero_points)) + columns


@dataclass(frozen=True)
class Group:
    """Layers that get one form; `pattern` matches them and no others.

    Attributes:
        start: the form that they have before any move.
    """

    pattern: str
    layers: tuple[Layer, ...]
    forms: tuple[str, ...]
    start: str = FLOAT

    @property
    def components(self) -> frozenset[str]:
        """The graphs that hold the layers; keys and values of the decoder's cross-attention are in the encoder."""
        return frozenset(layer.component for layer in self.layers)

    def bytes_as(self, form: str) -> int:
        """Bytes of all layers in a form."""
        return sum(layer.bytes_as(form) for layer in self.layers)

    def rule(self, form: str) -> Rule:
        """The override that gives the layers this form."""
        settings = dict(FORMS[form])
        if self.layers[0].embedding and form != FLOAT:
            settings = {"bits": settings["bits"], "block_size": 32, "algorithm": "k_quant"}
        return Rule(self.pattern, **settings)


def is_static(artifact: Artifact) -> bool:
    """Whether the graphs have static shapes, and are quantized whole."""
    return artifact.metadata.get("decoder") == "static"


def layers_of(artifact: Artifact) -> list[Layer]:
    """Every matrix that a quantizer may take, in graph order."""
    if is_static(artifact):
        return _layers_of_static(artifact)
    found = []
    for component, graph in graphs_of(artifact).items():
        for node in linear_layers(graph):
            weight = node.inputs[1]
            assert weight is not None
            assert weight.const_value is not None
            inputs, outputs = weight.const_value.shape.numpy()
            found.append(Layer(module_of(node), component, (inputs, outputs)))
        try:
            tied = find_tied_table(graph, component)
        except PocketOptError:
            continue  # a graph without a shared table
        assert tied.table.const_value is not None
        vocabulary, width = tied.table.const_value.shape.numpy()
        if width % 32 == 0:
            found.append(Layer(module_of(tied.lookups[0]), component, (width, vocabulary), embedding=True))
    return found


def _layers_of_static(artifact: Artifact) -> list[Layer]:
    """Prefill and decoder hold the same layers, the output head, which has levels of its own, among them."""
    found: dict[str, Layer] = {}
    for component, graph in graphs_of(artifact).items():
        for node in linear_layers(complete(graph)):
            name, own = module_of(node), DECODER if component in TEXT else component
            inputs, outputs = constant(node.inputs[1]).shape
            known = found.get(name, Layer(name, own, (inputs, outputs), graphs=0))
            found[name] = replace(known, graphs=known.graphs + 1)
    return list(found.values())


def groups_of(layers: Sequence[Layer], forms: Mapping[str, Sequence[str]], *, by_block: bool) -> list[Group]:
    """`layers` in groups, with the forms that may be chosen; `forms` gives those by component."""
    members: dict[str, list[Layer]] = {}
    for layer in layers:
        members.setdefault(_block(layer.name) if by_block else layer.name, []).append(layer)
    return [
        Group(pattern, tuple(part), chosen, STATIC[0] if set(chosen) & set(STATIC) else FLOAT)
        for pattern, part in members.items()
        for chosen in [_forms(part[0], forms)]
    ]


def _forms(layer: Layer, forms: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    allowed: Iterable[str] = forms.get(layer.component, ())
    return tuple(form for form in allowed if not layer.embedding or form in EMBEDDING_FORMS)


def _block(name: str) -> str:
    """The pattern of the block that a layer belongs to: "*.self_attn.*" for its projections, "*.fc?" for both."""
    attention = re.fullmatch(r"(.*_attn)\.\w+_proj", name)
    if attention:
        return f"{attention[1]}.*"
    return re.sub(r"\.fc[12]$", ".fc?", name)
