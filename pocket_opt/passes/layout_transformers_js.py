"""The files that transformers.js loads in Node and browsers: `pipeline("automatic-speech-recognition", DIR)`.

Applies to a cached encoder and decoder in ONNX, at the end, at every level of optimization. The graphs are those of
`layout_optimum`, below `onnx/`, with the suffix of their precision in the name; `config.json` says which one is
there, so that users need not. Costs nothing; see `layout_optimum` for what changes in the graphs. Source:
transformers.js 4.3, `src/utils/dtypes.js` and `src/models/session.js`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}


@dataclass(frozen=True)
class LayoutTransformersJsParams:
    """`dtype`: what the client calls the precision of the weights."""

    dtype: Literal["fp32", "fp16", "q8", "q4"] = "fp32"


class LayoutTransformersJs(Pass[LayoutTransformersJsParams]):
    """Renames ports, moves the projections, and merges prefill and step."""

    version = 1
    Params = LayoutTransformersJsParams
    tools = ("onnx", "onnx_ir", "numpy")

    def requires(self, inputs: Inputs, params: LayoutTransformersJsParams) -> None:  # noqa: ARG002
        """There are graphs with caches."""
        from pocket_opt.models.whisper.layouts.ports import require_cached_graphs

        require_cached_graphs(inputs["model"], "transformers_js")

    def run(
        self,
        inputs: Inputs,
        params: LayoutTransformersJsParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Rewrite both graphs, and say in `config.json` which precision they have."""
        from pocket_opt.models.whisper.layouts.artifacts import extend_config, lay_out, name_special_tokens
        from pocket_opt.models.whisper.layouts.merged_decoder import merge_graphs

        suffix = SUFFIXES[params.dtype]
        files = {
            "encoder": f"onnx/encoder_model{suffix}.onnx",
            "decoder": f"onnx/decoder_model_merged{suffix}.onnx",
        }
        artifact, did = lay_out(inputs["model"], workdir, "transformers_js", files, merge_graphs)
        name_special_tokens(artifact)
        extend_config(artifact, {"transformers.js_config": {"dtype": params.dtype}})
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: LayoutTransformersJsParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The answers are like before."""
        from pocket_opt.models.whisper.layouts.artifacts import check_client_answers

        check_client_answers(inputs["model"], outcome.artifact)


PASS = LayoutTransformersJs()
