"""One ONNX file from samples to text: mel front end, encoder, token loop with its rules, detokenizer.

Applies to the exported graphs of a Whisper whose decoder has a cache, whatever was fused or quantized in them; comes
last. Nothing but ONNX Runtime is needed to run the file. Weights are stored once, so it is no larger than the files it
replaces, tokenizer included. It decodes one window as the runner does; longer audio stays with a caller.
How it is built: ../models/whisper/all_in_one/.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact

FILE = "all_in_one.onnx"
EXTENSIONS = "onnxruntime-extensions>=0.14,<0.15"
"""What sessions on a graph that reads audio files need."""
NODES_BYTES = 200_000
"""Above what the loop, the rules and the text take; a weight that was stored twice would take more."""


@dataclass(frozen=True)
class ComposeParams:
    """Parameters.

    Attributes:
        audio: what the file takes: samples, or the bytes of an audio file.
        beams: 1: it decodes greedily. More: it searches by 1 to 5 beams, this many unless a caller says otherwise.
        length_penalty: of the beam search, unless a caller says otherwise.
    """

    audio: Literal["samples", "file"] = "samples"
    beams: int = field(default=1, metadata={"at_least": 1, "at_most": 5})
    length_penalty: float = 1.0


class ComposeAllInOne(Pass[ComposeParams]):
    """Replaces the graphs mel, encoder and decoder by one."""

    version = 3
    Params = ComposeParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy", "tokenizers")

    def check(self, params: ComposeParams) -> None:
        """What decodes audio files is installed, if the graph is to do that."""
        from pocket_opt.models.whisper.runner.extensions import require_extensions
        from pocket_opt.models.whisper.runner.transcript import RequestError

        if params.audio == "file":
            try:
                require_extensions()
            except RequestError as error:
                raise UserError(
                    str(error),
                    where="params.audio",
                    fix='pip install "pocket_opt[extensions]", or choose decoder.audio=samples',
                ) from None

    def requires(self, inputs: Inputs, params: ComposeParams) -> None:  # noqa: ARG002
        """The three graphs are there, and the decoder has a cache."""
        from pocket_opt.models.whisper.all_in_one.composition import PARTS
        from pocket_opt.onnx_graphs.files import require_graphs

        model = inputs["model"]
        require_graphs(model, PARTS)
        if not any(port.name.startswith("past_") for port in model.components["decoder"].inputs):
            raise PocketOptError(
                "the decoder has no cache, so a loop around it would read all tokens again at each step",
                where="component decoder",
                fix="export it with decoder=kv_cache",
            )
        if model.metadata.get("audio_context") == "auto":
            raise PocketOptError(
                "a caller shortens the audio's context, and inside one graph there is none",
                where="audio_context=auto",
                allowed="audio_context=full",
                fix="leave the context full, or choose decoder=kv_cache",
            )

    def run(
        self,
        inputs: Inputs,
        params: ComposeParams,
        workdir: Path,
        progress: Progress = silent,
    ) -> Outcome:
        """Compose the file; what it replaces is not carried on."""
        from pocket_opt.models.whisper.all_in_one.composition import NAME, PARTS, compose
        from pocket_opt.onnx_graphs.files import save
        from pocket_opt.onnx_graphs.writing import count_operators

        source = inputs["model"]
        model = compose(
            source, files=params.audio == "file", beams=params.beams, length_penalty=params.length_penalty
        )
        nodes = list(model.graph.all_nodes())
        settings = dict(source.metadata.get("session", {}))
        if params.audio == "file":
            settings["extensions"] = EXTENSIONS
        model.metadata_props["session"] = json.dumps(settings, sort_keys=True)
        part = save(model, workdir, FILE)
        artifact = source.carry(workdir, without=PARTS)
        artifact = artifact.with_component(NAME, part, decoder=NAME, session=settings)
        progress(1, 1, "graphs")
        return Outcome(
            artifact, {**_sizes(source, artifact), "nodes": len(nodes), "operators": count_operators(nodes)}
        )

    def ensures(self, inputs: Inputs, params: ComposeParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The ONNX checker accepts the file, ONNX Runtime hears a window of noise, and the file has not grown."""
        from pocket_opt.models.whisper.all_in_one.composition import NAME
        from pocket_opt.onnx_graphs.checks import check_structure

        check_structure(outcome.artifact.path(NAME), NAME)
        _hear_noise(outcome.artifact)
        if outcome.did["bytes_after"] > outcome.did["bytes_before"] + NODES_BYTES:
            raise PocketOptError(
                "the composed file is larger than what it replaces",
                where=f"{outcome.did['bytes_after']} bytes instead of {outcome.did['bytes_before']}",
                fix="report this with the model's shapes: a weight is stored twice",
            )


def _sizes(source: Artifact, result: Artifact) -> dict[str, Any]:
    """Bytes of what is replaced, the tokenizer included, and of the file."""
    from pocket_opt.models.whisper.all_in_one.composition import NAME, PARTS

    tokenizer = source.file("processor", "tokenizer.json").stat().st_size
    before = sum(source.size(name) for name in PARTS) + tokenizer
    return {"bytes_before": before, "bytes_after": result.size(NAME)}


def _hear_noise(artifact: Artifact) -> None:
    """Run two rows of a short noise for a few tokens; PocketOptError where a text or a token is missing."""
    import numpy as np

    from pocket_opt.models.whisper.all_in_one.composition import NAME
    from pocket_opt.models.whisper.runner.audio import as_wave
    from pocket_opt.models.whisper.runner.onnxruntime_backend import open_session

    settings = artifact.metadata["session"]
    session = open_session(artifact.path(NAME), settings, 0)
    names = [port.name for port in session.get_outputs()]
    noise = np.random.default_rng(0).standard_normal((2, 1600)).astype(np.float32)
    rows = 1 if settings.get("extensions") else len(noise)
    audio = {"audio_bytes": as_wave(noise[0], 16_000)} if rows == 1 else {"audio": noise}
    found = dict(zip(names, session.run(names, {**audio, "max_new_tokens": np.array([4])}), strict=True))
    if len(found["text"]) != rows or not 1 <= found["tokens"].shape[1] <= 4:
        raise PocketOptError(
            "the composed file does not answer every row",
            where=f"{len(found['text'])} texts, tokens {found['tokens'].shape}",
            fix="report this with the version of onnxruntime",
        )


PASS = ComposeAllInOne()
