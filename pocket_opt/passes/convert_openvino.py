"""Convert exported Whisper graphs to OpenVINO IR: caches as states, attention in the forms its CPU plugin is fast at.

Applies to the result of `export_onnx`; operators that only ONNX Runtime knows (what `fuse` and the ONNX quantizers
write) do not convert. With a cache, the decoder's self-attention caches become states inside the model, and cross-
attention values change their layout; `../openvino_graphs/` says why. Costs seconds and one read of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

GRAPHS = ("mel", "encoder", "decoder")
DECODERS = ("kv_cache", "basic")
LEAST_DB = 60.0
"""Agreement with the ONNX graphs, both computed in 32 bits, below which the conversion is wrong."""


@dataclass(frozen=True)
class ConvertOpenvinoParams:
    """How the model asks to be run; the artifact records it.

    Attributes:
        precision: what the plugin computes in. "f32", or "default": what it finds fastest on the processor, which is
            bfloat16 where there are instructions for it (AMX, AVX512-BF16).
        cache_precision: of the self-attention caches; "u8" is the plugin's own default, not exact and, at the lengths
            of Whisper, no faster.
    """

    precision: Literal["f32", "default"] = "f32"
    cache_precision: Literal["f32", "u8"] = "f32"


class ConvertOpenvino(Pass[ConvertOpenvinoParams]):
    """Reads ONNX, rewrites, writes IR."""

    version = 1
    Params = ConvertOpenvinoParams
    tools = ("openvino", "numpy")

    def requires(self, inputs: Inputs, params: ConvertOpenvinoParams) -> None:  # noqa: ARG002
        """The three graphs are ONNX of standard operators."""
        from pocket_opt.onnx_graphs.files import load, require_graphs

        require_graphs(inputs["model"], GRAPHS)
        decoder = inputs["model"].metadata["decoder"]
        if decoder not in DECODERS:
            raise PocketOptError(
                f"a decoder of the kind '{decoder}' is not converted",
                where="the decoder that export_onnx wrote",
                allowed=", ".join(DECODERS),
                fix="export another decoder",
            )
        for name in GRAPHS:
            foreign = [node for node in load(inputs["model"].path(name)).graph if node.domain]
            if foreign:
                first, others = foreign[0], len(foreign) - 1
                raise PocketOptError(
                    f"component '{name}' has operators of ONNX Runtime, which OpenVINO does not know",
                    where=f"node {first.name} ({first.domain}.{first.op_type}) and {others} more",
                    fix="convert the unfused export: leave fuse and the ONNX quantizers out before this pass",
                )

    def run(
        self, inputs: Inputs, params: ConvertOpenvinoParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write one graph after the other."""
        from pocket_opt.openvino_graphs.files import operators, read, save

        source = inputs["model"]
        artifact, did = source.carry(workdir, without=GRAPHS), dict[str, Any]()
        for done, name in enumerate(GRAPHS, start=1):
            model = read(source.path(name))
            changed = _rewrite(model, name, cached=source.metadata["decoder"] == "kv_cache")
            artifact = artifact.with_component(name, save(model, workdir, name))
            did[name] = {**changed, "operators": dict(operators(model)), "bytes": artifact.size(name)}
            progress(done, len(GRAPHS), "graphs")
        session = {"precision": params.precision, "cache_precision": params.cache_precision}
        artifact = artifact.with_component(
            "generation", artifact.components["generation"], runtime="openvino", session=session
        )
        return Outcome(artifact, did)

    def ensures(self, inputs: Inputs, params: ConvertOpenvinoParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The answers are those of the ONNX graphs, at a batch and at lengths that no rewrite saw."""
        from pocket_opt.openvino_graphs.checks import require_agreement

        require_agreement(inputs["model"], outcome.artifact, GRAPHS, least_db=LEAST_DB)


def _rewrite(model: Any, name: str, *, cached: bool) -> dict[str, int]:
    """Bring one graph into its fast form; returns what was changed, and fails where nothing was."""
    from pocket_opt.openvino_graphs.attention import rewrite_attention, swap_cross_values
    from pocket_opt.openvino_graphs.states import make_stateful

    if not cached or name == "mel":
        return {}
    if name == "encoder":
        counts = {"cross_values_swapped": swap_cross_values(model)}
    else:
        counts = {**rewrite_attention(model), "states": make_stateful(model)}
    if not all(counts.values()):
        raise PocketOptError(
            f"component '{name}' was not brought into the form that OpenVINO is fast at",
            where=str(counts),
            fix="convert the result of export_onnx",
        )
    return counts


PASS = ConvertOpenvino()
