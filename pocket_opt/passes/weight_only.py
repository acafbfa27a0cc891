"""Weight-only quantization: linear layers in 4 or 8 bits with a scale per block (MatMulNBits), activations float32.

Applies to MatMul nodes whose right side is a constant matrix; attention scores and a head that shares the embedding
have none (`quantize_embedding` takes the latter). Costs no data and seconds. 8 bits, block 32 take 28 % of fp32, 4
bits 16 % (scales in fp32; `store_fp16` afterwards halves them).

Unlike `dynamic_int8`, answers do not depend on the other clips of a batch: activations are rounded row by row, and only
at `accuracy_level` 4. On a CPU with AVX2 that level is what makes a step fast; 8 bits without it are slower than fp32.
Source: ONNX Runtime, operator com.microsoft.MatMulNBits; `../block_quantization.py` chooses the scales.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

Bits = Literal[4, 8]
LEAST_DB = {8: 10.0, 4: 0.0}
"""Agreement on random inputs below which the rewrite is wrong, not only inexact, by the fewest bits used."""


@dataclass(frozen=True)
class WeightOnlyParams:
    """What is quantized, and how.

    Attributes:
        components: graphs of the artifact.
        block_size: inputs that share a scale. Smaller is more exact and larger: at 4 bits 32 costs 5 bits a weight,
            128 costs 4.25.
        symmetric: one level is zero. Otherwise each block has a zero point (half to one dB better, a little larger).
        accuracy_level: how ONNX Runtime may round activations: 0 not at all, 1 fp32, 4 int8 by block.
        algorithm: "rtn", or "k_quant" (some tenths of a dB better, 20 times as long).
        include, exclude: shell-style patterns of node names.
        overrides: pairs of pattern and bits; the last that matches a node counts.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    bits: Bits = 8
    block_size: Literal[16, 32, 64, 128, 256] = 32
    symmetric: bool = True
    accuracy_level: Literal[0, 1, 4] = 4
    algorithm: Literal["rtn", "k_quant"] = "rtn"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    overrides: tuple[tuple[str, Bits], ...] = ()


class WeightOnly(Pass[WeightOnlyParams]):
    """Replaces MatMul by MatMulNBits."""

    version = 1
    Params = WeightOnlyParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def requires(self, inputs: Inputs, params: WeightOnlyParams) -> None:
        """The graphs exist, every pattern matches a linear layer, and the kernels know the sizes."""
        from pocket_opt.onnx_graphs.files import require_linear_layers

        patterns = (*params.include, *params.exclude, *(pattern for pattern, _ in params.overrides))
        require_linear_layers(inputs["model"], params.components, patterns)

    def run(
        self, inputs: Inputs, params: WeightOnlyParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other."""
        from pocket_opt.onnx_graphs.files import rewrite

        return rewrite(
            inputs["model"], params.components, workdir, lambda graph: _quantize(graph, params), progress
        )

    def ensures(self, inputs: Inputs, params: WeightOnlyParams, outcome: Outcome) -> None:
        """Structure, ports and weights are right; the answers are like before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        fewest = min((params.bits, *(bits for _, bits in params.overrides)))
        check_rewrite(inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB[fewest])


def bits_of(name: str, params: WeightOnlyParams) -> int:
    """The bits of the node `name`: those of the last override that matches it, else `params.bits`."""
    bits = params.bits
    for pattern, wanted in params.overrides:
        bits = wanted if fnmatchcase(name, pattern) else bits
    return bits


def _quantize(graph: ir.Graph, params: WeightOnlyParams) -> dict[str, Any]:
    """Rewrite `graph` in place; returns counts, the least exact tensor, and what was left out by reason."""
    from pocket_opt.onnx_graphs.files import choose_linear_layers

    chosen, left_out = choose_linear_layers(graph, params.include, params.exclude)
    stored: dict[tuple[str, int], Stored] = {}
    nodes_by_bits: Counter[str] = Counter()
    for node in chosen:
        bits = bits_of(node.name or "", params)
        nodes_by_bits[str(bits)] += 1
        _replace(graph, node, bits, params, stored)
    worst = min(stored, key=lambda key: stored[key].sqnr_db, default=None)
    return {
        "tensors": len(stored),
        "nodes_by_bits": dict(nodes_by_bits),
        "least_exact": worst and {"tensor": worst[0], "sqnr_db": round(stored[worst].sqnr_db, 1)},
        "left_out": left_out,
    }


@dataclass(frozen=True)
class Stored:
    """The initializers of one quantized weight, its (K, N), and its SQNR in dB."""

    values: tuple[ir.Value, ...]
    shape: tuple[int, int]
    sqnr_db: float


def _store(graph: ir.Graph, weight: ir.Value, bits: int, params: WeightOnlyParams) -> Stored:
    from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
    from pocket_opt.onnx_graphs.files import add_blocks, constant

    rows = constant(weight).T
    blocks = quantize_blocks(
        rows, bits=bits, block_size=params.block_size, symmetric=params.symmetric, algorithm=params.algorithm
    )
    outputs, inputs = rows.shape
    return Stored(add_blocks(graph, str(weight.name), blocks), (inputs, outputs), blocks.sqnr_db(rows))


def _replace(
    graph: ir.Graph, node: ir.Node, bits: int, params: WeightOnlyParams, stored: dict[tuple[str, int], Stored]
) -> None:
    """Put MatMulNBits in the place of `node`; a weight that several nodes share is stored once."""
    from pocket_opt.onnx_graphs.files import matmul_nbits, replace_node

    weight = node.inputs[1]
    assert weight is not None
    key = (str(weight.name), bits)
    if key not in stored:
        stored[key] = _store(graph, weight, bits, params)
    found = stored[key]
    sizes = {"bits": bits, "block_size": params.block_size, "accuracy_level": params.accuracy_level}
    replace_node(node, [matmul_nbits(node, found.values, found.shape, sizes)])


PASS = WeightOnly()
