"""SmoothQuant: outliers of activations move into the weights before both are rounded; the float model stays the same.

Applies to ONNX graphs in front of `dynamic_int8`: `nodes.smooth.pass=smooth_quant nodes.smooth.after=fuse`. For each
layer norm that only linear layers read (queries, keys, values; fc1), the norm's columns are divided by scales that are
heard on calibration clips and the weights multiplied by them, so no operator is added. out_proj and fc2 stand
behind an attention and a GELU, which take no scale per column, and stay; so does a norm whose output leaves the graph.
No level asks for it: see docs/quantization.md for what it does to the sample model. Source: Xiao et al.,
"SmoothQuant", arXiv 2211.10438; the form of neural-compressor needs the Intel extension for PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_opt.errors import UserError
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.onnx_graphs.block_quantization import Floats

LEAST_DB = 74.0
"""Agreement with the input on random data, as after `fuse`: nothing but fp32 rounding may differ."""


@dataclass(frozen=True)
class SmoothQuantParams(Calibrated):
    """How much moves.

    Attributes:
        components: graphs of the artifact.
        alpha: migration strength, 0 to 1: at 0 the weights become even, at 1 the activations.
        calibration_clips: how many are heard, spread evenly over the data set.
    """

    components: tuple[str, ...] = ("encoder",)
    alpha: float = 0.5
    calibration_clips: int = positive(32)


class SmoothQuant(Pass[SmoothQuantParams]):
    """Scales norms and the linear layers behind them."""

    version = 1
    Params = SmoothQuantParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def check(self, params: SmoothQuantParams) -> None:
        """`alpha` is a share."""
        if not 0 <= params.alpha <= 1:
            raise UserError(
                f"{params.alpha} is no share",
                where="params.alpha",
                allowed="0 to 1; the paper takes 0.5, and up to 0.85 for models with loud outliers",
            )

    def calibrates(self, params: SmoothQuantParams) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def requires(self, inputs: Inputs, params: SmoothQuantParams) -> None:
        """The graphs exist."""
        from pocket_opt.onnx_graphs.files import require_graphs

        require_graphs(inputs["model"], params.components)

    def run(
        self, inputs: Inputs, params: SmoothQuantParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Hear the clips, then rewrite one graph after the other; an error where a graph has no such norm."""
        from pocket_opt.data.planned import open_planned
        from pocket_opt.onnx_graphs.files import load, rewrite
        from pocket_opt.onnx_graphs.moments import peaks
        from pocket_opt.onnx_graphs.smoothing import find_smoothable
        from pocket_opt.runtimes.calibration import Calibration

        model = inputs["model"]
        clips = open_planned(params.calibration_path, params.calibration_digest)
        heard = Calibration.hear(model, clips.limit(params.calibration_clips), progress)
        loud: dict[str, dict[str, Floats]] = {}
        for name in params.components:
            sources = [group.source for group in find_smoothable(load(model.path(name)).graph)[0]]
            loud[name] = peaks(model, name, sources, heard.feeds(name)) if sources else {}
        outcome = rewrite(
            model,
            params.components,
            workdir,
            lambda graph: _smooth(graph, loud[str(graph.name)], params.alpha),
            progress,
        )
        return Outcome(outcome.artifact, {**outcome.did, "clips": len(heard.heard)})

    def ensures(self, inputs: Inputs, params: SmoothQuantParams, outcome: Outcome) -> None:
        """Structure, ports and weights are right; the answers are as before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB)


def _smooth(graph: ir.Graph, loud: dict[str, Floats], alpha: float) -> dict[str, Any]:
    """Rewrite `graph` in place; counts, how far the columns of activations lay apart, and what was left out."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import constant
    from pocket_opt.onnx_graphs.smoothing import find_smoothable, fold, scales

    groups, left_out = find_smoothable(graph)
    spread: dict[str, list[float]] = {"before": [], "after": []}
    for group in groups:
        peak = loud[group.source]
        factors = scales(peak, [constant(node.inputs[1]) for node in group.layers], alpha)
        fold(graph, group, factors)
        for when, columns in (("before", peak), ("after", peak / factors)):
            spread[when].append(float(columns.max() / np.median(columns).clip(1e-9)))
    return {
        "tensors": len(groups),
        "layers": sum(len(group.layers) for group in groups),
        "peak_over_median": {when: round(max(values, default=0), 1) for when, values in spread.items()},
        "left_out": left_out,
    }


PASS = SmoothQuant()
