"""The cross-attention cache in 8 bits, computed in integers, or stored in 16 bits: less memory for each clip.

Applies to a fused encoder and kv_cache decoder. The cache of whisper-tiny takes 18 MB a clip in fp32 and is read for
every token; in 8 bits it takes 4.6. On AVX2 the integer attention over 1,500 positions takes as long as the fused fp32
one (0.38 and 0.39 ms a layer, one thread), 16 bits cost a widening (0.52 ms): no level asks for it, and batches or
memory are the reason to. Costs one rewrite of two graphs. How: ../models/whisper/cross_cache.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import Floats

COMPONENTS = ("encoder", "decoder")
LEAST_DB = {"int8": 15.0, "fp16": 40.0}
"""Agreement of the logits on random features below which the rewrite is wrong, not only inexact."""


@dataclass(frozen=True)
class CrossCacheParams:
    """`int8`: 63 levels a side, one scale for each head and feature of a clip. `fp16`: half precision."""

    dtype: Literal["int8", "fp16"] = "int8"


class QuantizeCrossCache(Pass[CrossCacheParams]):
    """Changes the encoder's outputs and the attentions of the decoder that read them."""

    version = 1
    Params = CrossCacheParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def requires(self, inputs: Inputs, params: CrossCacheParams) -> None:  # noqa: ARG002
        """There is a cache in fp32, and every reader of it is fused."""
        from pocket_opt.models.whisper.cross_cache import cross_attentions, cross_ports
        from pocket_opt.onnx_graphs.files import load, require_graphs

        model = inputs["model"]
        require_graphs(model, COMPONENTS)
        decoder = load(model.path("decoder")).graph
        ports = cross_ports(decoder.inputs)
        if not ports or any(port.dtype is None or port.dtype.name != "FLOAT" for port in ports):
            raise PocketOptError(
                "the decoder reads no cross-attention cache in fp32",
                where=f"decoder: {model.metadata.get('decoder')}",
                allowed="an exported kv_cache decoder whose cache was not changed yet",
                fix="leave quantize_cross_cache out, or choose decoder=kv_cache",
            )
        if 2 * len(cross_attentions(decoder)) != len(ports):
            raise PocketOptError(
                "not every cross-attention of the decoder is fused",
                where=f"{len(cross_attentions(decoder))} of {len(ports) // 2} layers",
                fix="put quantize_cross_cache after fuse (nodes.<name>.after=fuse)",
            )

    def run(
        self, inputs: Inputs, params: CrossCacheParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite the encoder, then the decoder."""
        from pocket_opt.models.whisper import cross_cache
        from pocket_opt.onnx_graphs.files import rewrite

        changes = {
            ("encoder", "int8"): cross_cache.write_integers,
            ("encoder", "fp16"): cross_cache.write_half,
            ("decoder", "int8"): cross_cache.read_integers,
            ("decoder", "fp16"): cross_cache.read_half,
        }

        def change(graph: ir.Graph) -> dict[str, Any]:
            ports = cross_cache.cross_ports([*graph.inputs, *graph.outputs])
            changes[str(graph.name), params.dtype](graph)
            return {"tensors": len(ports), "dtype": params.dtype}

        return rewrite(inputs["model"], COMPONENTS, workdir, change, progress)

    def ensures(self, inputs: Inputs, params: CrossCacheParams, outcome: Outcome) -> None:
        """Both graphs are valid, fit together, and give the logits they gave."""
        from pocket_opt.onnx_graphs.checks import check_structure
        from pocket_opt.onnx_graphs.files import sqnr_db

        for name in COMPONENTS:
            check_structure(outcome.artifact.path(name), name)
        found = sqnr_db(_logits(inputs["model"]), _logits(outcome.artifact))
        if found < LEAST_DB[params.dtype]:
            raise PocketOptError(
                f"the logits differ too much: {found:.1f} dB",
                where="quantize_cross_cache",
                allowed=f"at least {LEAST_DB[params.dtype]} dB",
                fix="leave the pass out for this model",
            )


def _logits(model: Artifact) -> Floats:
    """Logits for two clips of random features, a prompt and a further token."""
    import numpy as np

    from pocket_opt.models.whisper.runner.onnxruntime_backend import open_backend

    dims, runtime = model.metadata["dims"], open_backend(model.root, model.describe(), 0)
    random = np.random.default_rng(0)
    features = random.standard_normal((2, dims["mels"], 2 * dims["source_positions"])).astype(np.float32)
    state = runtime.encode(features)
    prompt, state = runtime.decode(np.array([[1, 2, 3], [4, 5, 6]]), state)
    step, _ = runtime.decode(np.array([[7], [8]]), state)
    return np.concatenate([prompt, step], axis=1)


PASS = QuantizeCrossCache()
