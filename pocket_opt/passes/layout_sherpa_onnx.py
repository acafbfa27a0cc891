"""The files that sherpa-onnx loads: `OfflineRecognizer.from_whisper(encoder, decoder, tokens)`.

Applies to a cached encoder and decoder in ONNX, at the end, at every level of optimization. Caches of all layers in
one tensor, special ids and sizes in the encoder's metadata, words in `tokens.txt`. The client knows no tokens to
suppress, so that rule is in the decoder graph; it pads features in its own way, which the encoder puts right (see
../models/whisper/layouts/stacked_caches.py). A step copies its caches, as with the client's own exports. Source:
sherpa-onnx 1.12 to 2.0, `csrc/offline-whisper-model.cc`, `scripts/whisper/export-onnx.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

FILES = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}
TOKENS = "tokens.txt"


@dataclass(frozen=True)
class LayoutSherpaOnnxParams:
    """There is nothing to choose."""


class LayoutSherpaOnnx(Pass[LayoutSherpaOnnxParams]):
    """Stacks the caches, forbids suppressed tokens, and writes metadata and words."""

    version = 1
    Params = LayoutSherpaOnnxParams
    tools = ("onnx", "onnx_ir", "numpy")

    def requires(self, inputs: Inputs, params: LayoutSherpaOnnxParams) -> None:  # noqa: ARG002
        """There are graphs with caches, and special tokens in Whisper's order."""
        from pocket_opt.models.whisper.layouts.artifacts import vocabulary_of
        from pocket_opt.models.whisper.layouts.ports import require_cached_graphs

        require_cached_graphs(inputs["model"], "sherpa_onnx")
        vocabulary_of(inputs["model"])

    def run(
        self,
        inputs: Inputs,
        params: LayoutSherpaOnnxParams,  # noqa: ARG002
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Rewrite both graphs, and write `tokens.txt`."""
        from pocket_opt.artifact import Component
        from pocket_opt.models.whisper.layouts.artifacts import generation_table, lay_out
        from pocket_opt.models.whisper.layouts.rules_in_graph import forbid_tokens, suppressed_tokens
        from pocket_opt.models.whisper.layouts.sherpa_files import encoder_metadata, token_lines
        from pocket_opt.models.whisper.layouts.stacked_caches import stack_decoder, stack_encoder

        source = inputs["model"]
        dims = source.metadata["dims"]
        never, not_first = suppressed_tokens(generation_table(source), dims["vocab"])

        def change(graphs: Mapping[str, ir.Model]) -> None:
            stack_encoder(graphs["encoder"])
            graphs["encoder"].metadata_props.update(encoder_metadata(source))
            offset = stack_decoder(graphs["decoder"], dims["target_positions"])
            forbid_tokens(graphs["decoder"].graph, offset, never, not_first)

        artifact, did = lay_out(source, workdir, "sherpa_onnx", FILES, change)
        (workdir / TOKENS).write_text("".join(token_lines(source)), encoding="utf-8")
        did["suppressed"] = {"always": len(never), "at the beginning": len(not_first)}
        return Outcome(artifact.with_component("client", Component("processor", (TOKENS,))), did)

    def ensures(self, inputs: Inputs, params: LayoutSherpaOnnxParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The answers are like before."""
        from pocket_opt.models.whisper.layouts.artifacts import check_client_answers

        check_client_answers(inputs["model"], outcome.artifact)


PASS = LayoutSherpaOnnx()
