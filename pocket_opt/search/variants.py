"""Variants of a model in a scratch directory: some layers in other forms, by the same passes that ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocket_opt.artifact import Artifact
from pocket_opt.onnx_graphs.layers import is_dynamic, is_weight_only
from pocket_opt.passes import dynamic_int8, quantize_embedding, weight_only
from pocket_opt.precision import Rule
from pocket_opt.search.layers import Layer


def build(artifact: Artifact, rules: Sequence[Rule], layers: Sequence[Layer], folder: Path) -> Artifact:
    """`artifact` with exactly what `rules` say (each for layers that it names), written below `folder`."""
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
