"""The files that onnxruntime-genai loads: `onnxruntime_genai.Model(DIR)`.

Applies to a cached encoder and decoder in ONNX, at the end, at every level of optimization. Ports keep our names, which
`genai_config.json` tells the client; tokens to suppress, which it does not know, are forbidden in the decoder graph.
Source: onnxruntime-genai 0.18; see ../models/whisper/layouts/genai_files.py.
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
WINDOW_S = 30
CONFIG = "genai_config.json"


@dataclass(frozen=True)
class LayoutGenaiParams:
    """There is nothing to choose."""


class LayoutGenai(Pass[LayoutGenaiParams]):
    """Forbids suppressed tokens in the decoder, and writes the client's configuration."""

    version = 1
    Params = LayoutGenaiParams
    tools = ("onnx", "onnx_ir", "numpy")

    def requires(self, inputs: Inputs, params: LayoutGenaiParams) -> None:  # noqa: ARG002
        """There are graphs with caches, for the window of the client."""
        from pocket_opt.errors import PocketOptError
        from pocket_opt.models.whisper.layouts.ports import require_cached_graphs

        require_cached_graphs(inputs["model"], "genai")
        window = inputs["model"].metadata["dims"]["window_s"]
        if window != WINDOW_S:
            raise PocketOptError(
                f"onnxruntime-genai feeds {WINDOW_S} s at once, and this model takes {window:g} s",
                where="dims.window_s",
                fix="choose another bundle.layout",
            )

    def run(
        self,
        inputs: Inputs,
        params: LayoutGenaiParams,  # noqa: ARG002
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Rewrite the decoder, and write the tables."""
        from pocket_opt.artifact import Component
        from pocket_opt.models.whisper.layouts.artifacts import (
            generation_table,
            lay_out,
            name_special_tokens,
            write_table,
        )
        from pocket_opt.models.whisper.layouts.genai_files import FRONT_END, front_end_config, genai_config
        from pocket_opt.models.whisper.layouts.rules_in_graph import (
            forbid_tokens,
            past_length,
            suppressed_tokens,
        )

        source = inputs["model"]
        never, not_first = suppressed_tokens(generation_table(source), source.metadata["dims"]["vocab"])

        def change(graphs: Mapping[str, ir.Model]) -> None:
            graph = graphs["decoder"].graph
            forbid_tokens(graph, past_length(graph), never, not_first)

        artifact, did = lay_out(source, workdir, "genai", FILES, change)
        name_special_tokens(artifact)
        write_table(workdir / CONFIG, genai_config(artifact))
        write_table(workdir / FRONT_END, front_end_config(artifact))
        did["suppressed"] = {"always": len(never), "at the beginning": len(not_first)}
        return Outcome(artifact.with_component("client", Component("json", (CONFIG, FRONT_END))), did)

    def ensures(self, inputs: Inputs, params: LayoutGenaiParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The answers are like before."""
        from pocket_opt.models.whisper.layouts.artifacts import check_client_answers

        check_client_answers(inputs["model"], outcome.artifact)


PASS = LayoutGenai()
