"""ONNX Runtime's own transformer optimizer: finds attention, layer norms and GELUs by pattern and fuses them.

Applies to ONNX graphs that were traced from PyTorch, above all those of `optimum_export`, for which there are no
fusions of our own; a Whisper exported here is better served by `fuse`, which knows its graphs. What matches depends on
the architecture's `model_type`, the number of heads and the hidden size; nothing matching is a failure. It runs in a
process of its own, because its modules have generic names and change where Python looks for modules. Costs seconds.
Source: https://onnxruntime.ai/docs/performance/transformers-optimization.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.scratch import scratch
from pocket_opt.worker import call, silent

TASK = "pocket_opt.passes.ort_transformers_optimizer:optimize"
LEAST_DB = 60.0
"""Agreement on random inputs; a fusion changes the order of sums and nothing else."""

ModelType = Literal[
    "bart", "bert", "clip", "conformer", "gpt2", "gpt_neox", "phi", "qwen3", "swin", "t5", "tnlr", "vit"
]


@dataclass(frozen=True)
class OrtTransformersOptimizerParams:
    """What is looked for.

    Attributes:
        model_type: whose patterns; "bart" is that of encoder-decoders with Whisper's layers.
        components: graphs of the artifact; empty means every graph.
        heads, hidden_size: of the attention; 0 takes them from the artifact, or lets the optimizer detect them.
        opt_level: ONNX Runtime's own optimization before the patterns (0 none, 1 basic, 2 extended, 99 all); None is
            the optimizer's default for the model type.
        packed_attention: queries, keys and values in one Attention operator, which is a little quicker; without, they
            stay layers of their own, which quantizers can take.
    """

    model_type: ModelType = "bert"
    components: tuple[str, ...] = ()
    heads: int = 0
    hidden_size: int = 0
    opt_level: Literal[0, 1, 2, 99] | None = None
    packed_attention: bool = True


class OrtTransformersOptimizer(Pass[OrtTransformersOptimizerParams]):
    """Fuses graphs by `onnxruntime.transformers.optimizer`."""

    version = 1
    Params = OrtTransformersOptimizerParams
    tools = ("onnxruntime", "onnx", "onnx_ir")

    def requires(self, inputs: Inputs, params: OrtTransformersOptimizerParams) -> None:
        """The graphs exist, and heads divide the hidden size."""
        from pocket_opt.onnx_graphs.files import require_graphs

        require_graphs(inputs["model"], chosen(inputs["model"], params))
        if params.heads and params.hidden_size % params.heads:
            raise PocketOptError(
                f"{params.heads} heads do not divide a hidden size of {params.hidden_size}",
                where="parameters heads, hidden_size",
                fix="take both from the model's config.json",
            )

    def run(
        self,
        inputs: Inputs,
        params: OrtTransformersOptimizerParams,
        workdir: Path,
        progress: Progress = silent,
    ) -> Outcome:
        """Fuse one graph after the other and compare it with what it was."""
        source = inputs["model"]
        names = chosen(source, params)
        artifact, did = source.carry(workdir, without=names), dict[str, Any]()
        for done, name in enumerate(names, start=1):
            part, fused = _fuse(source, name, params, workdir)
            artifact = artifact.with_component(name, part)
            if fused:
                agreement = _compare(source, artifact, name)
                did[name] = {"fused": fused, "agreement": agreement, "bytes": artifact.size(name)}
            progress(done, len(names), "graphs")
        if not did:
            raise PocketOptError(
                f"nothing was fused by the patterns of '{params.model_type}'",
                where=f"components {', '.join(names)}",
                allowed="a graph traced from PyTorch, and the model type, heads and hidden size that belong to it",
                fix="try another model_type or opt_level=1, or leave this pass out",
            )
        return Outcome(artifact, {"components": did, "without_a_match": [n for n in names if n not in did]})

    def ensures(self, inputs: Inputs, params: OrtTransformersOptimizerParams, outcome: Outcome) -> None:
        """Structure and weights are right, and ports are named and typed as before."""
        from pocket_opt.onnx_graphs.checks import check_finite, check_structure

        for name in chosen(inputs["model"], params):
            check_structure(outcome.artifact.path(name), name)
            check_finite(outcome.artifact.path(name), name)
            before, after = (_ports(one.components[name]) for one in (inputs["model"], outcome.artifact))
            if before != after:
                raise PocketOptError(
                    f"the ports of component '{name}' changed", where=f"{after}", allowed=f"{before}"
                )


def chosen(model: Artifact, params: OrtTransformersOptimizerParams) -> tuple[str, ...]:
    """The components that `params` names, or every graph."""
    graphs = tuple(name for name, part in model.components.items() if part.format == "onnx")
    return params.components or graphs


def optimize(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> None:
    """The worker's side: optimize `payload["source"]` into `payload["target"]`."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    names = ("model_type", "num_heads", "hidden_size", "opt_level")
    options = FusionOptions(payload["model_type"])
    options.use_multi_head_attention = not payload["packed"]
    model = optimize_model(
        payload["source"], **{name: payload[name] for name in names}, optimization_options=options
    )
    model.save_model_to_file(payload["target"], use_external_data_format=payload["external"])
    progress(1, 1, "graphs")


def _fuse(
    source: Artifact, name: str, params: OrtTransformersOptimizerParams, workdir: Path
) -> tuple[Component, dict[str, int]]:
    """The optimized component, and how many nodes of ONNX Runtime's own operators it has more than before."""
    from pocket_opt.onnx_graphs.files import load, save

    dims = source.metadata.get("dims", {})
    side = "decoder" if name.startswith("decoder") else "encoder"
    with scratch("optimizer") as place:
        payload = {
            "source": str(source.path(name)),
            "target": str(place / "model.onnx"),
            "external": len(source.components[name].files) > 1,
            "model_type": params.model_type,
            "num_heads": params.heads or dims.get(f"{side}_heads", 0),
            "hidden_size": params.hidden_size or dims.get("d_model", 0),
            "opt_level": params.opt_level,
            "packed": params.packed_attention,
        }
        call(TASK, payload)
        model = load(place / "model.onnx")
        before, after = _contributed(load(source.path(name)).graph), _contributed(model.graph)
        fused = {op: count - before.get(op, 0) for op, count in sorted(after.items())}
        return save(model, workdir, source.components[name].files[0]), {
            op: count for op, count in fused.items() if count > 0
        }


def _contributed(graph: Any) -> dict[str, int]:
    from pocket_opt.onnx_graphs.files import CONTRIB
    from pocket_opt.onnx_graphs.writing import count_operators

    return count_operators(node for node in graph if node.domain == CONTRIB)


def _compare(before: Artifact, after: Artifact, name: str) -> str:
    """How near the answers to random inputs are; in words where the graph takes no random inputs.

    Raises:
        PocketOptError: the answers differ.
    """
    from pocket_opt.onnx_graphs.checks import agreement_db, open_session
    from pocket_opt.onnx_graphs.inputs import random_inputs, sizes_of

    session = open_session(before, name)
    try:
        session.run(None, random_inputs(before.components[name], sizes=sizes_of(before)))
    except Exception as error:  # the runtime's own classes share no base but this
        open_session(after, name)
        return f"only loaded: the graph takes no inputs of free sizes ({str(error).splitlines()[0][:120]})"
    level = agreement_db(before, after, name)
    if not level >= LEAST_DB:
        raise PocketOptError(
            f"component '{name}' no longer agrees with its input: SQNR {level:.1f} dB on random inputs",
            allowed=f"at least {LEAST_DB:.0f} dB",
            fix="choose another model_type or a lower opt_level: a pattern matched what it does not fit",
        )
    return "equal" if level == float("inf") else f"{level:.1f} dB"


def _ports(part: Component) -> list[tuple[str, str]]:
    return [(port.name, port.dtype) for port in (*part.inputs, *part.outputs)]


PASS = OrtTransformersOptimizer()
