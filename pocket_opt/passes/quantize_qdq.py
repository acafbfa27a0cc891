"""Static quantization for NPUs: activations on fixed grids, weights in integers, as QuantizeLinear and its inverse.

Applies to ONNX graphs of static shapes (`export_onnx` with `decoder=static`, and what was rewritten for an NPU since);
the mel front end stays as it is. The model transcribes calibration clips, and while it says its own words again, token
by token through its own caches, the range of every value is observed inside the graphs; nothing but features and
tokens is kept. Weights are rounded to nearest, one scale for each output channel; graphs that share weights get the
same bytes, and caches the same grid, so that they go from graph to graph in integers.

Costs minutes at real sizes. ONNX Runtime's CPU computes these graphs in floats between the grids: the answers are
those of an NPU with 16-bit activations to the last digits, the speed is not. Source: Jacob et al., arXiv 1712.05877;
ONNX Runtime, quantization guide (its own quantizer holds all inputs at once, and shares no grids between graphs).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, positive
from pocket_opt.precision import LEFT_FLOAT, Rule, searched
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.data.dataset import Dataset
    from pocket_opt.onnx_graphs.static_grids import Grids
    from pocket_opt.runtimes.calibration import Calibration

Width = Literal[16, 8]
LEAST_DB = {16: 15.0, 8: 3.0}
"""Agreement of the logits below which the result is wrong, not only inexact, by the bits of activations."""
COMPARED_CLIPS = 4


@dataclass(frozen=True)
class QuantizeQdqParams(Calibrated):
    """What is rounded, and how.

    Attributes:
        components: graphs of the artifact; "*" is every one with linear layers.
        activations: bits of what linear layers read and give.
        rest: bits of all other activations: norms, attention, GELU, residuals.
        caches: bits of the keys and values that go from graph to graph.
        weights: bits of linear layers; what is smaller than the features' convolutions is not worth 4 bits.
        kept: patterns of layers whose weights have 8 bits in any case; overrides come after it.
        embedding: bits of the token and position tables where they are looked up.
        norms: 16 stores scales and shifts of layer norms like activations; 8 in 8 and 32 bits, for all of HTP v68.
        method: how a range follows from what was seen: "minmax" all of it, "percentile" without the outermost,
            "mse" the least squared error.
        percentile: share of the values in % that "percentile" keeps.
        overrides: the precision of single layers, see `pocket_opt/precision.py`; the last that matches counts.
        calibration_clips: how many are heard, spread evenly over the data set.
        least_clips: fewer than these are refused.
        every: one of so many calls of the decoder is looked at.
        cache_mb: MB of features and tokens that may be kept on disk meanwhile.
    """

    components: tuple[str, ...] = ("*",)
    activations: Width = 16
    rest: Width = 16
    caches: Width = 16
    weights: Literal[8, 4] = 8
    kept: tuple[str, ...] = ()
    embedding: Width = 16
    norms: Width = 16
    method: Literal["minmax", "percentile", "mse"] = "minmax"
    percentile: float = 99.99
    overrides: tuple[Rule, ...] = ()
    calibration_clips: int = positive(32)
    least_clips: int = positive(8)
    every: int = positive(3)
    cache_mb: int = positive(2000)

    def fewest_clips(self) -> int:
        """See Calibrated."""
        return self.least_clips


class QuantizeQdq(Pass[QuantizeQdqParams]):
    """Observes and rewrites."""

    version = 4
    Params = QuantizeQdqParams
    search_params: ClassVar = {"encoder_forms": ("static4",), "decoder_forms": ("static4",)}
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy", "tokenizers")

    def check(self, params: QuantizeQdqParams) -> None:
        """There are enough clips, and a percentile is one."""
        from pocket_opt.data.calibration_clips import require_enough

        require_enough(params.calibration_clips, params.least_clips, where="params.calibration_clips")
        if not 50 < params.percentile <= 100:
            raise UserError(
                f"{params.percentile} is no share that a range may keep",
                where="params.percentile",
                allowed="above 50, up to 100",
            )

    def calibrates(self, params: QuantizeQdqParams) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def requires(self, inputs: Inputs, params: QuantizeQdqParams) -> None:
        """Shapes are static, every operator has an integer form, patterns match, and the clips will do."""
        from pocket_opt.data.calibration_clips import require_clips
        from pocket_opt.onnx_graphs.files import require_graphs, require_matches
        from pocket_opt.onnx_graphs.layers import names_of
        from pocket_opt.onnx_graphs.static_precision import check_static, is_spared
        from pocket_opt.onnx_graphs.static_values import complete, require_quantizable, require_static
        from pocket_opt.runtimes.calibration import require_room

        model, names = inputs["model"], list[str]()
        rules = _rules(model, params)
        check_static(rules)
        components = _components(model, params)
        require_graphs(model, components)
        require_static(model, components)
        for component in components:
            graph = complete(_load(model, component))
            require_quantizable(graph, [node for node in graph if is_spared(node, rules)])
            names += [name for node in graph for name in names_of(node)]
        require_matches(
            names, [*params.kept, *(rule.pattern for rule in params.overrides)], "kept, overrides"
        )
        clips = _clips(params)
        require_clips(clips, params.least_clips)
        require_room(model, len(clips), params.cache_mb)

    def run(
        self, inputs: Inputs, params: QuantizeQdqParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Hear the clips, observe, rewrite one graph after the other, and compare what both say."""
        from pocket_opt.onnx_graphs.files import rewrite
        from pocket_opt.runtimes.calibration import Calibration
        from pocket_opt.scratch import scratch

        model = inputs["model"]
        components = _components(model, params)
        with scratch("calibration") as folder:
            began = time.perf_counter()
            heard = Calibration.hear(model, _clips(params), progress, keep=folder)
            heard_s = time.perf_counter() - began
            grids, looked = _observe(model, components, heard, params, progress)
            outcome = rewrite(
                model,
                components,
                workdir,
                lambda graph: _quantize(graph, grids, _rules(model, params), params),
            )
            artifact = _described(outcome.artifact, params)
            agreement = _compare(heard, model, artifact)
        did = {
            "clips": len(heard.heard),
            "heard_s": round(heard_s, 1),
            "calls_observed": looked,
            "agreement": agreement,
        }
        return Outcome(artifact, {**outcome.did, **did})

    def ensures(self, inputs: Inputs, params: QuantizeQdqParams, outcome: Outcome) -> None:
        """The graphs are valid, their weights finite, ports kept but for caches, and answers near the float ones."""
        from pocket_opt.onnx_graphs.checks import check_finite, check_ports_but_caches, check_structure

        activations, weights = _fewest(inputs["model"], params)
        least = LEAST_DB[min(activations, 2 * weights)]
        for name in outcome.did["components"]:
            check_structure(outcome.artifact.path(name), name)
            check_finite(outcome.artifact.path(name), name)
            check_ports_but_caches(inputs["model"].components[name], outcome.artifact.components[name], name)
        for what, found in outcome.did["agreement"].items():
            if what.endswith("_db") and not found >= least:
                raise PocketOptError(
                    f"quantized graphs no longer agree with the float ones: {what} {found:.1f}",
                    where="calibration clips, fed the same tokens",
                    allowed=f"at least {least:.0f} dB",
                    fix="use more bits (params.activations, rest, caches), more clips, or overrides",
                )


def _clips(params: QuantizeQdqParams) -> Dataset:
    from pocket_opt.data.planned import open_planned

    return open_planned(params.calibration_path, params.calibration_digest).limit(params.calibration_clips)


def _fewest(model: Artifact, params: QuantizeQdqParams) -> tuple[int, int]:
    """The fewest bits that activations and weights have somewhere."""
    rules = _rules(model, params)
    activations = [rule.activations for rule in rules if isinstance(rule.activations, int)]
    weights = [rule.bits for rule in rules if isinstance(rule.bits, int)]
    widths = params.activations, params.rest, params.caches
    return min(*widths, *activations), min([params.weights, params.embedding, *weights])


def _described(artifact: Artifact, params: QuantizeQdqParams) -> Artifact:
    """`artifact` with what those who run or compile it should know, saved."""
    from pocket_opt.onnx_graphs.exact_products import with_exact_products

    activations, weights = _fewest(artifact, params)
    about = {"activations": activations, "weights": weights}
    metadata = {**with_exact_products(artifact).metadata, "quantization": about}
    return replace(artifact, metadata=metadata).save()


def _components(model: Artifact, params: QuantizeQdqParams) -> tuple[str, ...]:
    from pocket_opt.onnx_graphs.layers import named
    from pocket_opt.onnx_graphs.static_values import float_nodes

    return named(model, params.components, float_nodes)


def _rules(model: Artifact, params: QuantizeQdqParams) -> list[Rule]:
    return [*(Rule(pattern, bits=8) for pattern in params.kept), *searched(model), *params.overrides]


def _load(model: Artifact, component: str) -> ir.Graph:
    from pocket_opt.onnx_graphs.files import load

    graph = load(model.path(component)).graph
    graph.name = component
    return graph


def _observe(
    model: Artifact,
    components: tuple[str, ...],
    heard: Calibration,
    params: QuantizeQdqParams,
    progress: Progress,
) -> tuple[Grids, dict[str, int]]:
    """The grids of all activations, and how many calls of each graph were looked at."""
    from pocket_opt.onnx_graphs.checks import open_session
    from pocket_opt.onnx_graphs.observing import Observed
    from pocket_opt.onnx_graphs.static_grids import Grids
    from pocket_opt.onnx_graphs.static_values import activations, complete, masks

    graphs = {name: complete(_load(model, name)) for name in components}
    sessions: dict[str, Any] = {}
    for name, part in model.components.items():
        if name not in graphs:
            sessions |= {name: open_session(model, name)} if part.format == "onnx" else {}
            continue
        pure, sums = masks(graphs[name])
        seen = [str(value.name) for value in activations(graphs[name])]
        every = params.every if name == "decoder" else 1
        sessions[name] = Observed(model, name, seen, {*pure, *sums}, every)
    heard.say_again(sessions, progress)
    observed = {name: sessions[name] for name in components}
    spreads = {name: session.spreads for name, session in observed.items()}
    looked = {name: session.looked for name, session in observed.items()}
    return Grids(graphs, spreads, params.method, params.percentile), looked


def _quantize(graph: ir.Graph, grids: Grids, rules: list[Rule], params: QuantizeQdqParams) -> dict[str, Any]:
    """Rewrite `graph` in place; counts and what was left float."""
    from pocket_opt.onnx_graphs.qdq import quantize
    from pocket_opt.onnx_graphs.static_precision import Bits, Scheme, is_spared
    from pocket_opt.onnx_graphs.static_values import complete, float_nodes

    component = str(graph.name)
    complete(graph)
    left = [node.name for node in float_nodes(graph) if is_spared(node, rules)]
    bits = Bits(params.activations, params.rest, params.weights, params.embedding)
    scheme = Scheme(
        lambda node: bits.of(node, rules),
        params.caches,
        params.norms,
        lambda name, bits: grids.grid(component, name, bits),
    )
    return {**quantize(graph, scheme), "left_out": {LEFT_FLOAT: left} if left else {}}


def _compare(heard: Calibration, model: Artifact, quantized: Artifact) -> dict[str, float]:
    """How near quantized graphs are to the float ones: each with its own encoder and caches, fed the same tokens."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import sqnr_db
    from pocket_opt.runtimes import open_runtime

    exact, rounded = open_runtime(model), open_runtime(quantized)
    hidden, logits = [], []
    for one in heard.heard[:COMPARED_CLIPS]:
        before, after = exact.encode(one.features), rounded.encode(one.features)
        hidden.append((exact.encoder_hidden(before), rounded.encoder_hidden(after)))
        tokens = one.forced.tokens
        logits.append((exact.decode(tokens, before)[0][0], rounded.decode(tokens, after)[0][0]))
    did: dict[str, float] = {}
    for what, pairs in (("encoder", hidden), ("logits", logits)):
        old, new = (np.concatenate([pair[place] for pair in pairs]) for place in (0, 1))
        cosine = float(np.vdot(old, new) / max(float(np.linalg.norm(old) * np.linalg.norm(new)), 1e-30))
        did |= {f"{what}_db": round(sqnr_db(old, new), 2), f"{what}_cosine": round(cosine, 6)}
    return did | {"same_choice_percent": round(100 * float((old.argmax(-1) == new.argmax(-1)).mean()), 2)}


PASS = QuantizeQdq()
