"""Variants of a model in a scratch directory: some layers in other forms, by the same passes that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.files import add_initializer, constant, linear_layers, load, save
from pocket_opt.onnx_graphs.layers import graphs_of, is_dynamic, is_weight_only, rule_of
from pocket_opt.onnx_graphs.qdq_constants import rounded
from pocket_opt.onnx_graphs.static_values import complete
from pocket_opt.passes import dynamic_int8, quantize_embedding, weight_only
from pocket_opt.precision import Rule
from pocket_opt.search.layers import Layer, is_static


def build(artifact: Artifact, rules: Sequence[Rule], layers: Sequence[Layer], folder: Path) -> Artifact:
    """`artifact` with exactly what `rules` say (each for layers that it names), written below `folder`."""
    if is_static(artifact):
        return _rounded(artifact, rules, folder / "rounded").save()
    table = {layer.name for layer in layers if layer.embedding}
    matrices = tuple(rule for rule in rules if rule.pattern not in table)
    shared = tuple(rule for rule in rules if rule.pattern in table and rule.bits != "none")
    if any(is_dynamic(rule) for rule in matrices):
        params = dynamic_int8.DynamicInt8Params(components=(), reduce_range=True, overrides=matrices)
        artifact = dynamic_int8.PASS.run({"model": artifact}, params, folder / "dynamic").artifact
    if any(is_weight_only(rule) for rule in matrices):
        chosen = weight_only.WeightOnlyParams(components=(), overrides=matrices)
        artifact = weight_only.PASS.run({"model": artifact}, chosen, folder / "weights").artifact
    for rule in shared:
        one = quantize_embedding.QuantizeEmbeddingParams(
            components=tuple({layer.component for layer in layers if layer.embedding}), overrides=(rule,)
        )
        artifact = quantize_embedding.PASS.run({"model": artifact}, one, folder / "embedding").artifact
    return artifact.save()


def _rounded(artifact: Artifact, rules: Sequence[Rule], folder: Path) -> Artifact:
    """Weights of static graphs, rounded to what `quantize_qdq` stores and kept as floats.

    Its activations have 16 bits, which change next to nothing and would have to be observed first.
    """
    folder.mkdir(parents=True)
    graphs = tuple(graphs_of(artifact))
    made = artifact.carry(folder, without=graphs)
    for name in graphs:
        model = load(artifact.path(name))
        for node in linear_layers(complete(model.graph)):
            rule, weight = rule_of(node, rules), node.inputs[1]
            if rule is not None and isinstance(rule.bits, int) and weight is not None:
                array = constant(weight)
                levels, scale = rounded(array, array.ndim - 1, rule.bits)
                value = add_initializer(model.graph, f"{weight.name}.rounded", levels * scale)
                node.replace_input_with(1, value)
        part = save(model, folder, artifact.components[name].files[0])
        made = made.with_component(name, part)
    return made
