"""The files that Optimum loads: `ORTModelForSpeechSeq2Seq.from_pretrained(DIR)`.

Applies to a cached encoder and decoder in ONNX, at the end, at every level of optimization. `encoder_model.onnx`
gives hidden states; `decoder_model_merged.onnx` holds prefill and step with the weights stored once. The projections
of the cross-attention cache move from the encoder to the decoder; nothing is computed twice, no weight is added.
Source: Optimum ONNX 0.1, `WhisperOnnxConfig` and `ORTModelForSpeechSeq2Seq`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

FILES = {"encoder": "encoder_model.onnx", "decoder": "decoder_model_merged.onnx"}


@dataclass(frozen=True)
class LayoutOptimumParams:
    """There is nothing to choose."""


class LayoutOptimum(Pass[LayoutOptimumParams]):
    """Renames ports, moves the projections, and merges prefill and step."""

    version = 1
    Params = LayoutOptimumParams
    tools = ("onnx", "onnx_ir", "numpy")

    def requires(self, inputs: Inputs, params: LayoutOptimumParams) -> None:  # noqa: ARG002
        """There are graphs with caches."""
        from pocket_opt.models.whisper.layouts.ports import require_cached_graphs

        require_cached_graphs(inputs["model"], "optimum")

    def run(
        self,
        inputs: Inputs,
        params: LayoutOptimumParams,  # noqa: ARG002
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Rewrite both graphs."""
        from pocket_opt.models.whisper.layouts.artifacts import lay_out, name_special_tokens
        from pocket_opt.models.whisper.layouts.merged_decoder import merge_graphs

        artifact, did = lay_out(inputs["model"], workdir, "optimum", FILES, merge_graphs)
        name_special_tokens(artifact)
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: LayoutOptimumParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The answers are like before."""
        from pocket_opt.models.whisper.layouts.artifacts import check_client_answers

        check_client_answers(inputs["model"], outcome.artifact)


PASS = LayoutOptimum()
