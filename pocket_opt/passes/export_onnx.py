"""Write a Whisper checkpoint as ONNX graphs: mel front end, encoder and decoder, of static shapes if asked.

Applies to a source artifact (`load_source`, `random_weights`). The graphs are built straight from the state dict,
without tracing: shapes are dynamic, bytes are reproducible, node names tell the module. Costs one read of the weights;
memory holds one tensor at a time. Layout of the graphs: ../models/whisper/encoder_graph.py and decoder_graph.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact, Component, link_file
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.models.whisper.checkpoint import Checkpoint, WhisperDims

SESSION_ENTRIES = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
"""ONNX Runtime's CPU kernel of SkipLayerNormalization takes five times as long as the two nodes it stands for; with the
encoder's last norm left alone, the sample model's encoder takes 5.35 ms instead of 5.54."""


@dataclass(frozen=True)
class ExportParams:
    """What the graphs look like.

    Attributes:
        decoder: `kv_cache`: one graph for prefill and step. `basic`: no cache, every step reads all tokens again.
            `static`: every shape fixed, one clip a call, a cache of full length; `decoder` takes one token, and
            another graph, `prefill`, as many as the model's longest forced prompt.
        audio_context: `full`: the encoder sees whole windows. `auto`: any length, so that short clips take less time.
        prefill: of `static`: whether there is `prefill`; else the prompt goes through `decoder` token by token.
        word_timestamps: the decoder also gives the queries of the cross-attention that the times of words follow from.
    """

    decoder: Literal["kv_cache", "basic", "static"] = "kv_cache"
    audio_context: Literal["full", "auto"] = "full"
    prefill: bool = True
    word_timestamps: bool = False


class ExportOnnx(Pass[ExportParams]):
    """Builds `mel`, `encoder` and `decoder` from the state dict and passes tokenizer and configuration on."""

    version = 2
    Params = ExportParams
    tools = ("onnx", "onnx_ir", "numpy")

    def check(self, params: ExportParams) -> None:
        """Static shapes leave no room for a shortened audio context, and have no ports to spare."""
        if params.decoder == "static" and params.audio_context == "auto":
            raise UserError(
                "the static decoder reads caches of one length, and audio_context=auto gives them any length",
                where="audio_context",
                allowed="audio_context=full with decoder=static; audio_context=auto with kv_cache or basic",
                fix="choose one of the two",
            )
        if params.decoder == "static" and params.word_timestamps:
            raise UserError(
                "the static decoder takes one token a call, and word_timestamps=true reads a whole text at once",
                where="word_timestamps",
                allowed="word_timestamps=true with decoder=kv_cache or basic",
                fix="choose one of the two",
            )

    def requires(self, inputs: Inputs, params: ExportParams) -> None:
        """The checkpoint is a complete Whisper, and has the heads that it says align."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        dims = open_checkpoint(inputs["model"].root).dims
        if params.word_timestamps:
            _aligned_layers(inputs["model"], dims)

    def run(
        self, inputs: Inputs, params: ExportParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write the graphs one after the other, each streamed to its file."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.models.whisper.forced_prompt import longest_prompt

        source = inputs["model"]
        checkpoint = open_checkpoint(source.root)
        artifact = _without_weights(source, workdir, params)
        did: dict[str, Any] = {}
        aligned = _aligned_layers(source, checkpoint.dims) if params.word_timestamps else ()
        prompt = longest_prompt(source) if params.decoder == "static" and params.prefill else 0
        graphs = _graphs(checkpoint, params, aligned, prompt)
        for done, (name, graph) in enumerate(graphs.items(), start=1):
            component, did[name] = write_graph(graph, workdir, name)
            artifact = artifact.with_component(name, component)
            progress(done, len(graphs), "graphs")
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: ExportParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Every graph satisfies the ONNX checker and has the ports that its component states."""
        from pocket_opt.onnx_graphs.checks import check_ports, check_structure
        from pocket_opt.onnx_graphs.files import load
        from pocket_opt.onnx_graphs.writing import ports

        for name in outcome.did:
            path, stated = outcome.artifact.path(name), outcome.artifact.components[name]
            check_structure(path, name)
            inputs_found, outputs_found = ports(load(path))
            check_ports(stated, replace(stated, inputs=inputs_found, outputs=outputs_found), name)


def write_graph(model: ir.Model, workdir: Path, name: str) -> tuple[Component, dict[str, Any]]:
    """Save `model` as `<name>.onnx`; gives its component and a table of counts (nodes, parameters, bytes)."""
    from pocket_opt.onnx_graphs.writing import count_operators, initializer_bytes, ports, save_model

    files = save_model(model, workdir / f"{name}.onnx")
    inputs, outputs = ports(model)
    operators = count_operators(model.graph)
    tensors = [value.const_value for value in model.graph.initializers.values()]
    counts = {
        "nodes": sum(operators.values()),
        "operators": operators,
        "parameters": sum(tensor.size for tensor in tensors if tensor is not None),
        "weight_bytes": initializer_bytes(model),
        "bytes": sum((workdir / file).stat().st_size for file in files),
    }
    return Component("onnx", files, inputs, outputs), counts


def _aligned_layers(source: Artifact, dims: WhisperDims) -> tuple[int, ...]:
    """Layers of the decoder with heads that follow the speech."""
    from pocket_opt.models.layout import GENERATION_CONFIG, read_table
    from pocket_opt.models.whisper.runner.transcript import RequestError
    from pocket_opt.models.whisper.runner.word_times import alignment_heads

    path = source.file("model", GENERATION_CONFIG)
    try:
        heads = alignment_heads(read_table(path), dims.decoder_layers, dims.decoder_heads)
    except RequestError as error:
        raise PocketOptError(
            str(error), where=path.name, fix="correct or remove alignment_heads, or set word_timestamps=false"
        ) from None
    return tuple(sorted({layer for layer, _ in heads}))


def _graphs(
    checkpoint: Checkpoint, params: ExportParams, aligned: tuple[int, ...], prompt: int
) -> dict[str, ir.Model]:
    """The graphs by name; `prompt` is how many tokens `prefill` takes, 0 for none."""
    from pocket_opt.models.whisper.decoder_graph import build_basic_decoder, build_cached_decoder
    from pocket_opt.models.whisper.encoder_graph import POSITIONS, build_encoder
    from pocket_opt.models.whisper.mel_graph import build_mel
    from pocket_opt.models.whisper.static_decoder_graph import build_static_decoder

    mel = build_mel(checkpoint.dims)
    if params.decoder == "static":
        return {
            "mel": mel,
            "encoder": build_encoder(checkpoint, cross_cache=True, batch=1),
            **(
                {"prefill": build_static_decoder(checkpoint, length=prompt, name="prefill")} if prompt else {}
            ),
            "decoder": build_static_decoder(checkpoint),
        }
    cached, any_length = params.decoder == "kv_cache", params.audio_context == "auto"
    build = build_cached_decoder if cached else build_basic_decoder
    return {
        "mel": mel,
        "encoder": build_encoder(checkpoint, cross_cache=cached, any_length=any_length),
        "decoder": build(checkpoint, positions=POSITIONS if any_length else None, aligned=aligned),
    }


def _without_weights(source: Artifact, workdir: Path, params: ExportParams) -> Artifact:
    """The processor and the two configuration files, in `workdir`, described as an ONNX Runtime artifact."""
    carried = source.carry(workdir, without=("model",))
    names = ("generation_config.json", "config.json")
    for name in names:
        link_file(source.file("model", name), workdir / name)
    session = {"graph_optimization": "all", "entries": dict(SESSION_ENTRIES)}
    return carried.with_component(
        "generation",
        Component("json", names),
        runtime="onnxruntime",
        decoder=params.decoder,
        audio_context=params.audio_context,
        session=session,
        **({"word_timestamps": True} if params.word_timestamps else {}),
    )


PASS = ExportOnnx()
