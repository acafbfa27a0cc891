"""Weight-only quantization: linear layers in 2, 4 or 8 bits with a scale per block (MatMulNBits), activations float32.

Applies to MatMul nodes whose right side is a constant matrix; attention scores and a head that shares the embedding
have none (`quantize_embedding` takes the latter). Costs seconds. 8 bits, block 32 take 28 % of fp32, 4 bits 16 %
(scales in fp32; `store_fp16` afterwards halves them). 2 bits hold no model that was tried; ONNX Runtime has no 3.

Unlike `dynamic_int8`, answers do not depend on the other clips of a batch: activations are rounded row by row, and only
at `accuracy_level` 4. On a CPU with AVX2 that level is what makes a step fast; 8 bits without it are slower than fp32.
Source: ONNX Runtime, operator com.microsoft.MatMulNBits; `../block_quantization.py` and `../gptq.py` choose the levels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Calibrated, Inputs, Outcome, Pass, Progress, positive
from pocket_opt.precision import LEFT_FLOAT, Algorithm, Rule, searched
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

    from pocket_opt.onnx_graphs.block_quantization import BlockTensor

Bits = Literal[2, 4, 8]
LEAST_DB = {8: 10.0, 4: 0.0, 2: -20.0}
"""Agreement on random inputs below which the rewrite is wrong, not only inexact, by the fewest bits used."""


@dataclass(frozen=True)
class WeightOnlyParams(Calibrated):
    """What is quantized, and how.

    Attributes:
        components: graphs of the artifact; "*" is every one with linear layers.
        block_size: inputs that share a scale. Smaller is more exact and larger: at 4 bits 32 costs 5 bits a weight,
            128 costs 4.25.
        symmetric: one level is zero. Otherwise each block has a zero point (half to one dB better, a little larger).
        accuracy_level: how ONNX Runtime may round activations: 0 not at all, 1 fp32, 4 int8 by block.
        algorithm: "rtn"; "k_quant" (some tenths of a dB better, 20 times as long); "hqq" (alike; needs zero points);
            "gptq" (2 to 3 dB better in the layer's output; needs calibration audio); "grid" (for weights that
            `torch_gptq` and its like rounded before: loses nothing; other weights as by "rtn").
        include, exclude: shell-style patterns of node names.
        overrides: the precision of single layers, see `pocket_opt/precision.py`; the last that matches counts.
        calibration_clips: how many clips "gptq" listens to, spread evenly.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    bits: Bits = 8
    block_size: Literal[16, 32, 64, 128, 256] = 32
    symmetric: bool = True
    accuracy_level: Literal[0, 1, 4] = 4
    algorithm: Algorithm = "rtn"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    overrides: tuple[Rule, ...] = ()
    calibration_clips: int = positive(32)


class WeightOnly(Pass[WeightOnlyParams]):
    """Replaces MatMul by MatMulNBits."""

    version = 2
    Params = WeightOnlyParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def check(self, params: WeightOnlyParams) -> None:
        """HQQ fits zero points."""
        if params.algorithm == "hqq" and params.symmetric:
            raise UserError(
                "hqq fits zero points, which symmetric weights do not have",
                where="params.symmetric",
                fix="set symmetric=false, or choose another algorithm",
            )

    def calibrates(self, params: WeightOnlyParams) -> bool:
        """GPTQ does."""
        return "gptq" in (params.algorithm, *(rule.algorithm for rule in params.overrides))

    def requires(self, inputs: Inputs, params: WeightOnlyParams) -> None:
        """The graphs exist, and every pattern matches a layer."""
        from pocket_opt.onnx_graphs.files import require_linear_layers
        from pocket_opt.onnx_graphs.layers import named, require_known

        _require_kept_grid(inputs["model"], params)
        require_known(inputs["model"], params.overrides)
        components = named(inputs["model"], params.components)
        require_linear_layers(inputs["model"], components, (*params.include, *params.exclude))

    def run(
        self, inputs: Inputs, params: WeightOnlyParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other; also graphs beside `components` in which an override asks for it."""
        from pocket_opt.onnx_graphs.files import rewrite
        from pocket_opt.onnx_graphs.layers import called_for, is_weight_only, named

        model = inputs["model"]
        params = replace(
            params,
            components=named(model, params.components),
            overrides=(*searched(model), *params.overrides),
        )
        components = called_for(model, params.components, params.overrides, is_weight_only)
        heard = _listen(model, components, params, progress) if self.calibrates(params) else {}
        return rewrite(model, components, workdir, lambda graph: _quantize(graph, params, heard), progress)

    def ensures(self, inputs: Inputs, params: WeightOnlyParams, outcome: Outcome) -> None:  # noqa: ARG002
        """Structure, ports and weights are right; the answers are like before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        for name, did in outcome.did["components"].items():
            fewest = min(map(int, did["nodes_by_bits"]), default=8)
            check_rewrite(inputs["model"], outcome.artifact, [name], least_db=LEAST_DB[fewest])


def _require_kept_grid(model: Artifact, params: WeightOnlyParams) -> None:
    """Raise PocketOptError where weights that were rounded to these bits before would be rounded to another grid."""
    grid = model.metadata.get("weight_grid")
    found = {"bits": params.bits, "block_size": params.block_size, "symmetric": params.symmetric}
    if grid is None or grid["bits"] != params.bits or (grid == found and params.algorithm == "grid"):
        return
    wanted = " ".join(f"params.{name}={str(value).lower()}" for name, value in grid.items())
    raise PocketOptError(
        f"the weights were rounded to {grid['bits']} bits before, and these parameters would round them again",
        where=", ".join(
            f"{name}={value}" for name, value in {**found, "algorithm": params.algorithm}.items()
        ),
        fix=f"set {wanted} params.algorithm=grid",
    )


@dataclass(frozen=True)
class Setting:
    """How one weight is quantized."""

    bits: int
    block_size: int
    symmetric: bool
    algorithm: Algorithm


Quantized: TypeAlias = "dict[tuple[str, Setting], BlockTensor]"
"""Weights that are quantized already, by name and setting."""


def setting_of(node: ir.Node, params: WeightOnlyParams) -> Setting | None:
    """How the layer `node` is quantized; None where an override leaves it float."""
    from pocket_opt.onnx_graphs.layers import rule_of

    rule = rule_of(node, params.overrides)
    wanted = {} if rule is None else rule.settings
    if wanted.get("bits") == "none":
        return None
    names = ("bits", "block_size", "symmetric", "algorithm")
    return Setting(**{name: wanted.get(name, getattr(params, name)) for name in names})


def _choose(
    graph: ir.Graph, params: WeightOnlyParams
) -> tuple[list[tuple[ir.Node, Setting]], dict[str, list[str]]]:
    """The layers of `graph` to quantize, and how; the names of the others by reason."""
    from pocket_opt.onnx_graphs.files import choose_linear_layers, linear_layers
    from pocket_opt.onnx_graphs.layers import is_weight_only, require_nothing_left, rule_of

    require_nothing_left(graph, params.overrides)
    own = graph.name in params.components
    chosen, left_out = choose_linear_layers(graph, params.include, params.exclude)
    asked = [node for node in linear_layers(graph) if is_weight_only(rule_of(node, params.overrides))]
    found: list[tuple[ir.Node, Setting]] = []
    for node in dict.fromkeys([*chosen, *asked]) if own else asked:
        setting = setting_of(node, params)
        if setting is None:
            left_out.setdefault(LEFT_FLOAT, []).append(node.name or "")
        else:
            found.append((node, setting))
    return found, left_out


def _listen(
    model: Artifact, components: Sequence[str], params: WeightOnlyParams, progress: Progress
) -> Quantized:
    """The weights whose levels follow from calibration audio."""
    from pocket_opt.data.planned import open_planned
    from pocket_opt.onnx_graphs.files import constant, load
    from pocket_opt.onnx_graphs.gptq import quantize_gptq
    from pocket_opt.onnx_graphs.moments import each_moment
    from pocket_opt.runtimes.calibration import Calibration

    clips = open_planned(params.calibration_path, params.calibration_digest).limit(params.calibration_clips)
    calibration = Calibration.hear(model, clips, progress)
    found: Quantized = {}
    for name in components:
        readers: dict[str, list[tuple[ir.Value, Setting]]] = defaultdict(list)
        for node, setting in _choose(load(model.path(name)).graph, params)[0]:
            source, weight = node.inputs[:2]
            if setting.algorithm == "gptq" and source is not None and weight is not None:
                readers[str(source.name)].append((weight, setting))
        for source_name, moment in each_moment(model, name, list(readers), calibration.feeds(name)):
            for weight, setting in readers[source_name]:
                found[str(weight.name), setting] = quantize_gptq(
                    constant(weight).T,
                    moment,
                    bits=setting.bits,
                    block_size=setting.block_size,
                    symmetric=setting.symmetric,
                )
    return found


def _quantize(graph: ir.Graph, params: WeightOnlyParams, heard: Quantized) -> dict[str, Any]:
    """Rewrite `graph` in place; returns counts, the least exact tensor, and what was left out by reason."""
    chosen, left_out = _choose(graph, params)
    stored: dict[tuple[str, Setting], Stored] = {}
    for node, setting in chosen:
        weight = node.inputs[1]
        assert weight is not None
        key = (str(weight.name), setting)
        if key not in stored:
            stored[key] = _store(graph, weight, setting, heard.get(key))
        _replace(node, stored[key], setting, params.accuracy_level)
    worst = min(stored, key=lambda key: stored[key].sqnr_db, default=None)
    return {
        "tensors": len(stored),
        "nodes_by_bits": dict(Counter(str(setting.bits) for _, setting in chosen)),
        "algorithms": dict(Counter(setting.algorithm for _, setting in chosen)),
        "least_exact": worst and {"tensor": worst[0], "sqnr_db": round(stored[worst].sqnr_db, 1)},
        "left_out": left_out,
    }


@dataclass(frozen=True)
class Stored:
    """The initializers of one quantized weight, its (K, N), and its SQNR in dB."""

    values: tuple[ir.Value, ...]
    shape: tuple[int, int]
    sqnr_db: float


def _store(graph: ir.Graph, weight: ir.Value, setting: Setting, heard: BlockTensor | None) -> Stored:
    from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
    from pocket_opt.onnx_graphs.files import add_blocks, constant

    rows = constant(weight).T
    blocks = heard or quantize_blocks(rows, **asdict(setting))
    outputs, inputs = rows.shape
    return Stored(add_blocks(graph, str(weight.name), blocks), (inputs, outputs), blocks.sqnr_db(rows))


def _replace(node: ir.Node, found: Stored, setting: Setting, accuracy_level: int) -> None:
    """Put MatMulNBits in the place of `node`."""
    from pocket_opt.onnx_graphs.files import matmul_nbits, replace_node

    sizes = {"bits": setting.bits, "block_size": setting.block_size, "accuracy_level": accuracy_level}
    replace_node(node, [matmul_nbits(node, found.values, found.shape, sizes)])


PASS = WeightOnly()
