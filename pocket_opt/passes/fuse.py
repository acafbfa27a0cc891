"""Lossless clean-up and fusion of ONNX graphs for ONNX Runtime on the CPU.

Applies to exported graphs, before quantization. The rules, with what they bring (whisper-tiny shapes, one thread of an
AVX2 machine, CPU time; sample-model shapes in brackets):

- `attention` -> MultiHeadAttention. Encoder of 30 s 569 -> 560 ms, peak memory 292 -> 160 MB [5.82 -> 5.75 ms]; a
  decoder step 7.04 -> 6.57 ms [0.154 -> 0.137], three clips at once 9.86 -> 8.83 ms.
- `bias_gelu` -> BiasGelu. ONNX Runtime finds it by itself when it loads; explicit, it is counted and survives.
- `skip_layer_norm` -> SkipLayerNormalization, off unless asked for: ONNX Runtime's CPU kernel takes 2.2 us a row of 384
  against 0.4 for Add and LayerNormalization; it saves a microsecond for one row and loses from four rows on.

MatMul and its bias stay apart: ONNX Runtime fuses them where it can, and quantizers look for MatMul. Constants are not
folded into the file, because the two that could be (the transposed embedding, the mel basis) would make it larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.models.whisper.fusion import Rule

RuleName = Literal["attention", "bias_gelu", "skip_layer_norm"]
LEAST_DB = 74.0
"""Agreement with the input on random data: an error of 2e-4 of the signal, hundreds of times fp32 rounding."""


@dataclass(frozen=True)
class FuseParams:
    """What is fused.

    Attributes:
        components: graphs of the artifact.
        rules: the rules to apply, in order; see the module's description.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    rules: tuple[RuleName, ...] = ("attention", "bias_gelu")


class Fuse(Pass[FuseParams]):
    """Applies the rules and removes what nothing uses."""

    version = 1
    Params = FuseParams
    tools = ("onnx", "onnx_ir", "onnxruntime")

    def requires(self, inputs: Inputs, params: FuseParams) -> None:
        """The graphs and the rules exist."""
        from pocket_opt.onnx_graphs.files import require_graphs

        require_graphs(inputs["model"], params.components)

    def run(self, inputs: Inputs, params: FuseParams, workdir: Path, progress: Progress = silent) -> Outcome:
        """Rewrite one graph after the other; PocketOptError where a graph offers nothing to fuse."""
        from pocket_opt.onnx_graphs.files import load, save

        source = inputs["model"]
        artifact, did = source.carry(workdir, without=params.components), {}
        for done, name in enumerate(params.components, start=1):
            model = load(source.path(name))
            did[name] = _rewrite(model, params)
            if params.rules and not did[name]["fused"]:
                raise PocketOptError(
                    f"nothing could be fused in component '{name}'",
                    where=f"{did[name]['rules']}",
                    fix="take it out of the components, or leave the pass out: it may be fused already",
                )
            part = save(model, workdir, source.components[name].files[0])
            artifact = artifact.with_component(name, part)
            progress(done, len(params.components), "graphs")
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: FuseParams, outcome: Outcome) -> None:
        """Structure, ports and weights are right; the answers are as before, for several tokens after a past."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB)


def _rewrite(model: ir.Model, params: FuseParams) -> dict[str, Any]:
    before = len(model.graph)
    removed = _clean_up(model)
    rules = {name: _rule(name).apply(model.graph) for name in params.rules}
    unfused = len(model.graph)
    _clean_up(model)
    return {
        "fused": sum(report["applied"] for report in rules.values()),
        "rules": rules,
        "removed_first": removed,
        "removed_after_fusion": unfused - len(model.graph),
        "nodes_before": before,
        "nodes_after": len(model.graph),
    }


def _rule(name: str) -> Rule:
    from pocket_opt.models.whisper.fusion import Rule, fuse_bias_gelu, fuse_skip_layer_norm
    from pocket_opt.models.whisper.fusion_attention import fuse_attention

    rules = {
        "attention": Rule("Softmax", fuse_attention),
        "bias_gelu": Rule("Gelu", fuse_bias_gelu),
        "skip_layer_norm": Rule("LayerNormalization", fuse_skip_layer_norm),
    }
    return rules[name]


def _clean_up(model: ir.Model) -> dict[str, int]:
    """Nodes that each step of the clean-up removed."""
    from onnx_ir.passes import common

    removed = {}
    for step in (
        common.IdentityEliminationPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        before = len(model.graph)
        step(model)
        removed[type(step).__name__.removesuffix("Pass")] = before - len(model.graph)
    return removed


PASS = Fuse()
