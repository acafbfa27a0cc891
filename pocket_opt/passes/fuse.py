"""Lossless clean-up and fusion for ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class FuseParams:
    components: tuple[str, ...] = ("encoder", "decoder")
    rules: tuple[str, ...] = ("self_attention", "cross_attention", "cached_attention", "skip_layer_norm", "bias_gelu")


class Fuse(Pass[FuseParams]):
    version = 1
    Params = FuseParams
    tools = ("onnx", "onnx_ir", "onnxruntime")

    def run(self, inputs: Inputs, params: FuseParams, workdir: Path, progress: Progress = silent) -> Outcome:
        from pocket_opt.onnx_files import load, save
        from pocket_opt.models.whisper.fusion import Rule, bias_gelu, skip_layer_norm
        from pocket_opt.models.whisper.fusion_attention import cached_attention, cross_attention, self_attention
        import onnx_ir as ir
        import onnx_ir.passes.common
        rules = {"self_attention": Rule("Softmax", self_attention), "cross_attention": Rule("Softmax", cross_attention), "cached_attention": Rule("Softmax", cached_attention), "skip_layer_norm": Rule("LayerNormalization", skip_layer_norm), "bias_gelu": Rule("Gelu", bias_gelu)}
        source = inputs["model"]
        art = source.carry(workdir, without=params.components)
        did = {}
        for name in params.components:
            m = load(source.path(name))
            did[name] = {}
            for r in params.rules:
                did[name][r] = rules[r].apply(m.graph)
                ir.passes.common.RemoveUnusedNodesPass()(m)
            art = art.with_component(name, save(m, workdir, source.components[name].files[0]))
        return Outcome(art, did)


PASS = Fuse()
