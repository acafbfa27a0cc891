"""Write a Whisper checkpoint as one TorchScript program for PyTorch's lite interpreter.

Applies to a source artifact (`load_source`, `random_weights`). The modules are those of `export_executorch`, traced;
their layers are stored in fewer bits first. TorchScript is no longer developed: take it where `torch.export` refuses a
model, or where an application has PyTorch Mobile already. Costs seconds, and memory for two copies of the weights.
Source: docs.pytorch.org/docs/stable/jit.html and mobile_optimizer.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.fixed_shapes import require_full_context
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.executorch_graphs.methods import Method
    from pocket_opt.models.whisper.checkpoint import Checkpoint

RUNTIME, FILE = "torchscript", "model.ptl"
LEAST_DB = {"float32": 80.0, "float16": 40.0, "int8": 12.0}
"""Agreement with the modules in 32 bits on random inputs, below which the program is wrong, not only inexact."""
REDUCED = ("encoder", "decoder")
"""Methods with linear layers."""
LOOPED = ("forward", "listen", "language")
"""Methods of a program with the loop inside."""
CHECKED_TOKENS, MOST_OFF = 6, 1e-3
"""How many tokens of a program with the loop inside are compared, and how far a log probability may be off."""


@dataclass(frozen=True)
class ExportTorchscriptParams:
    """What the linear layers are.

    Attributes:
        weights: of linear layers and embedding; `float16` is stored so and widened when loaded.
        prepack: run `optimize_for_mobile`, which packs layers for XNNPACK. It needs a PyTorch that is built with
            XNNPACK, which its wheels for Linux are not.
        loop: put the decoding loop inside, so that one call goes from features to tokens, greedily.
        audio_context: only `full`: the encoder's shapes are fixed.
        beams: only 1 with `loop`.
    """

    weights: Literal["float32", "float16", "int8"] = "float32"
    prepack: bool = False
    loop: bool = False
    audio_context: Literal["full", "auto"] = "full"
    beams: int = neutral(1, instead="decoding.beams")


class ExportTorchscript(Pass[ExportTorchscriptParams]):
    """Builds, stores in fewer bits, traces and writes the program; passes tokenizer and configuration on."""

    version = 1
    Params = ExportTorchscriptParams
    tools = ("torch", "numpy")

    def check(self, params: ExportTorchscriptParams) -> None:
        """Windows are whole; a loop inside follows one sequence."""
        if params.loop and params.beams > 1:
            raise UserError(
                "the loop inside a TorchScript program follows one sequence",
                where="decoding.beams",
                allowed="decoding=greedy, or decoder=kv_cache, whose loop is run.py's",
                fix="choose one of the two",
            )
        require_full_context(params.audio_context)

    def requires(self, inputs: Inputs, params: ExportTorchscriptParams) -> None:
        """The checkpoint is a complete Whisper; PyTorch can do what is asked."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.torchscript_graphs.program import can_prepack

        open_checkpoint(inputs["model"].root)
        if params.prepack and not can_prepack():
            raise PocketOptError(
                "optimize_for_mobile needs a PyTorch that is built with XNNPACK, and this one is not",
                where="params.prepack",
                allowed="prepack=false",
                fix="leave prepack out, or build PyTorch with USE_XNNPACK=1",
            )

    def run(
        self, inputs: Inputs, params: ExportTorchscriptParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Reduce one method after the other, then trace and write all of them as one file."""
        from pocket_opt.executorch_graphs.methods import described
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.torchscript_graphs.program import write

        source = inputs["model"]
        methods = _methods(open_checkpoint(source.root), params)
        layers = {name: _reduce(methods[name], params) for name in REDUCED}
        progress(1, 2, "steps")
        module, names = _program(source, methods, params)
        did = write(module, workdir / FILE, prepack=params.prepack, names=names)
        progress(2, 2, "steps")
        artifact = described(source, methods, workdir / FILE, RUNTIME)
        if params.loop:
            artifact = _as_one(artifact)
        return Outcome(artifact, {"bytes": (workdir / FILE).stat().st_size, "linear_layers": layers, **did})

    def ensures(self, inputs: Inputs, params: ExportTorchscriptParams, outcome: Outcome) -> None:
        """Run by the lite interpreter, every method answers like its module."""
        from pocket_opt.executorch_graphs.checks import require_agreement
        from pocket_opt.models.whisper.checkpoint import open_checkpoint
        from pocket_opt.models.whisper.runner.torchscript_backend import TorchscriptBackend

        artifact, source = outcome.artifact, inputs["model"]
        if params.loop:
            _require_tokens(artifact, source, params)
            return
        methods = _methods(open_checkpoint(source.root), ExportTorchscriptParams())
        backend = TorchscriptBackend(artifact.root, artifact.describe(), 0)
        require_agreement(methods, backend.session, least_db=LEAST_DB[params.weights])


def _methods(checkpoint: Checkpoint, params: ExportTorchscriptParams) -> dict[str, Method]:
    """The modules; the embedding has a table of its own where the head is no longer one."""
    from pocket_opt.executorch_graphs.layers import read
    from pocket_opt.executorch_graphs.methods import whisper_methods
    from pocket_opt.executorch_graphs.tables import ByteTable, FloatTable

    weight = read(checkpoint, "decoder.embed_tokens.weight")
    return whisper_methods(checkpoint, (ByteTable if params.weights == "int8" else FloatTable)(weight))


def _reduce(method: Method, params: ExportTorchscriptParams) -> int:
    """Store a method's linear layers as asked, in place; how many they are."""
    from pocket_opt.torchscript_graphs import storage

    module: Any = method.module
    if params.weights == "int8":
        return storage.quantize_8_bits(module)
    found = storage.store_in_16_bits(module) if params.weights == "float16" else storage.linear_layers(module)
    if hasattr(module, "head"):
        module.embed_tokens = storage.HeadTable(module.head)
    return found


def _program(source: Artifact, methods: Mapping[str, Method], params: ExportTorchscriptParams) -> Any:
    """The scripted module, and the names of the methods that callers call."""
    from pocket_opt.torchscript_graphs.program import scripted, traced

    if params.loop:
        return scripted(_listener(source, methods)), LOOPED
    return traced(methods), tuple(methods)


def _listener(source: Artifact, methods: Mapping[str, Method]) -> Any:
    """The loop around the modules, not yet scripted."""
    from pocket_opt.models.layout import GENERATION_CONFIG, TOKENIZER, read_table
    from pocket_opt.models.whisper.runner.vocabulary import Vocabulary
    from pocket_opt.torchscript_graphs.listener import listener, special_ids

    generation = read_table(source.file("model", GENERATION_CONFIG))
    vocabulary = Vocabulary(source.file("processor", TOKENIZER), generation)
    [logits] = [port for port in methods["decoder"].outputs if port.name == "logits"]
    return listener(methods, special_ids(generation, vocabulary, int(logits.shape[-1])))


def _as_one(artifact: Artifact) -> Artifact:
    """The three methods described as the one component that they are with the loop around them."""
    mel, encoder = (artifact.components[name] for name in ("mel", "encoder"))
    one = Component(
        RUNTIME,
        mel.files,
        inputs=(*mel.inputs, *encoder.inputs),
        outputs=(*mel.outputs, Port("tokens", "int64", ("length",))),
    )
    kept = {
        name: part for name, part in artifact.components.items() if name not in ("mel", "encoder", "decoder")
    }
    return replace(artifact, components=kept).with_component("all_in_one", one, decoder="all_in_one")


def _require_tokens(artifact: Artifact, source: Artifact, params: ExportTorchscriptParams) -> None:
    """The program in the lite interpreter says the tokens that its modules say, stored in the same bits."""
    import torch

    from pocket_opt.models.whisper.checkpoint import open_checkpoint
    from pocket_opt.models.whisper.runner.torchscript_backend import method, open_program

    methods = _methods(open_checkpoint(source.root), params)
    for name in REDUCED:
        _reduce(methods[name], params)
    made, program = _listener(source, methods), open_program(artifact.path("all_in_one"))
    [features] = methods["encoder"].examples()
    features = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    given = [features, torch.tensor([made.start]), CHECKED_TOKENS, CHECKED_TOKENS, False]
    with torch.no_grad():
        expected, likely, _ = made.listen(*given)
    tokens, found, _ = method(program, "listen")(given)
    off = abs(float(likely) - float(found)) > MOST_OFF * CHECKED_TOKENS
    if off or not torch.isfinite(found).all() or not tokens.equal(expected):
        raise PocketOptError(
            "the program does not say what its modules say",
            where=f"tokens {tokens.tolist()}, log probability {float(found):.3f}",
            allowed=f"tokens {expected.tolist()}, log probability {float(likely):.3f}",
            fix="report this with the model's shapes",
        )


PASS = ExportTorchscript()
