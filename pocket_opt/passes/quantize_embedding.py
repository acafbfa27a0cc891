"""The tied token embedding in 8 (or 4) bits, stored once for the lookup and for the output head.

Applies to a float32 table [vocab, d_model] that a Gather reads and, through a Transpose, a MatMul: in small Whispers
most of the decoder (80 of 118 MB in tiny). Lookup and head read the same bytes: GatherBlockQuantized takes the table as
[vocab, blocks, block_size], which is what MatMulNBits packs. One 8-bit copy takes 28 % of the fp32 table at block 32,
26 % at block 128. The head decides tokens: keep it at 8 bits unless the error rate says otherwise.
Source: ONNX Runtime, operators com.microsoft.GatherBlockQuantized and com.microsoft.MatMulNBits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact
from pocket_opt.errors import PocketOptError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.precision import LEFT_FLOAT, Rule, rule_for, searched
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import onnx_ir as ir

WIDEST_BY_ITSELF = 32
"""Features that share a scale where nobody says: the scales are a sixteenth of the table."""
LEAST_DB = 6.0
"""Agreement on random inputs below which the rewrite is wrong, not only inexact."""


@dataclass(frozen=True)
class QuantizeEmbeddingParams:
    """How the table is quantized.

    Attributes:
        components: graphs of the artifact with a tied embedding.
        block_size: consecutive features that share a scale; a power of two that divides d_model. None: 32, or 16 where
            only that divides it.
        accuracy_level: how ONNX Runtime may round the head's input: 0 not at all, 1 fp32, 4 int8 by block. At 8 bits
            only 4 is fast.
        algorithm: "rtn" or "k_quant".
        overrides: the precision of single layers, see `pocket_opt/precision.py`; the last that matches counts.
    """

    components: tuple[str, ...] = ("decoder",)
    bits: Literal[4, 8] = 8
    block_size: int | None = None
    accuracy_level: Literal[0, 1, 4] = 4
    algorithm: Literal["rtn", "k_quant"] = "rtn"
    overrides: tuple[Rule, ...] = ()


class QuantizeEmbedding(Pass[QuantizeEmbeddingParams]):
    """Replaces Gather by GatherBlockQuantized and Transpose + MatMul by MatMulNBits over the same initializer."""

    version = 3
    Params = QuantizeEmbeddingParams
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def requires(self, inputs: Inputs, params: QuantizeEmbeddingParams) -> None:
        """There is one tied embedding in each graph, and blocks fill its rows."""
        from pocket_opt.onnx_graphs.files import load, require_graphs
        from pocket_opt.onnx_graphs.layers import require_known

        model = inputs["model"]
        require_graphs(model, params.components)
        require_known(model, params.overrides)
        for name in params.components:
            tied = find_tied_table(load(model.path(name)).graph, name)
            block_size(tied, _settled(tied, _with_search(model, params)) or params)

    def run(
        self, inputs: Inputs, params: QuantizeEmbeddingParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other."""
        from pocket_opt.onnx_graphs.files import rewrite

        params = _with_search(inputs["model"], params)
        return rewrite(
            inputs["model"], params.components, workdir, lambda graph: _quantize(graph, params), progress
        )

    def ensures(self, inputs: Inputs, params: QuantizeEmbeddingParams, outcome: Outcome) -> None:
        """Structure, ports and weights are right; the answers are like before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, params.components, least_db=LEAST_DB)


def _with_search(model: Artifact, params: QuantizeEmbeddingParams) -> QuantizeEmbeddingParams:
    return replace(params, overrides=(*searched(model), *params.overrides))


def _settled(tied: TiedTable, params: QuantizeEmbeddingParams) -> QuantizeEmbeddingParams | None:
    """The parameters as an override for this table has them; None where it leaves the table float.

    Raises:
        PocketOptError: the override asks for what no embedding can have.
    """
    from pocket_opt.onnx_graphs.layers import names_of

    readers = (*tied.lookups, *tied.heads)
    rule = rule_for([name for node in readers for name in names_of(node)], params.overrides)
    if rule is None:
        return params
    wanted = {
        key: value for key, value in rule.settings.items() if key in ("bits", "block_size", "algorithm")
    }
    if rule.bits == "none":
        return None
    exact_zero = rule.symmetric is not False
    if rule.bits == 2 or rule.algorithm in ("hqq", "gptq") or rule.activations == "dynamic" or not exact_zero:
        raise PocketOptError(
            f"an override asks for a form that the embedding cannot have: {rule.settings}",
            where=f"override '{rule.pattern}', table {tied.table.name}",
            allowed="bits 4, 8 or none, algorithm rtn or k_quant, symmetric",
            fix="add an override for 'decoder.embed_tokens' behind it",
        )
    return replace(params, **wanted)


def block_size(tied: TiedTable, params: QuantizeEmbeddingParams) -> int:
    """Features that share a scale.

    Raises:
        PocketOptError: the rows of the table cannot be cut into such blocks.
    """
    width = tied.table.const_value.shape[1]
    sizes = [size for size in (16, 32, 64, 128, 256) if width % size == 0]
    wanted = params.block_size or max(
        [size for size in sizes if size <= WIDEST_BY_ITSELF], default=WIDEST_BY_ITSELF
    )
    if wanted not in sizes:
        raise PocketOptError(
            f"a block size of {wanted} does not fit the rows of '{tied.table.name}', "
            f"which have {width} features",
            where="parameter block_size",
            allowed=", ".join(map(str, sizes)) or "(none for this width)",
            fix="choose an allowed block size" if sizes else "leave quantize_embedding out",
        )
    return wanted


@dataclass(frozen=True)
class TiedTable:
    """The embedding and its readers."""

    table: ir.Value
    lookups: tuple[ir.Node, ...]
    transpose: ir.Node
    heads: tuple[ir.Node, ...]


def find_tied_table(graph: ir.Graph, component: str = "") -> TiedTable:
    """The float32 initializer that is both looked up and multiplied by; PocketOptError if there is none."""
    for node in graph:
        table = node.inputs[0] if node.op_type == "Transpose" else None
        found = None if table is None else _readers(table, node)
        if found is not None:
            return found
    raise PocketOptError(
        f"component '{component}' has no embedding that the output head shares",
        where="a float32 table read by Gather and, through Transpose, by MatMul",
        fix="leave it out (weight_only takes a head with its own matrix), or run it before store_fp16",
    )


def _readers(table: ir.Value, transpose: ir.Node) -> TiedTable | None:
    from pocket_opt.onnx_graphs.files import is_matrix

    lookups = tuple(node for node, index in table.uses() if _looks_up(node) and index == 0)
    heads = tuple(
        node for node, index in transpose.outputs[0].uses() if node.op_type == "MatMul" and index == 1
    )
    readers = len(lookups) + len(heads)
    all_known = readers == len(table.uses()) - 1 + len(transpose.outputs[0].uses())
    if not (is_matrix(table) and lookups and heads and all_known):
        return None
    return TiedTable(table, lookups, transpose, heads)


def _looks_up(node: ir.Node) -> bool:
    axis = node.attributes.get("axis")
    return node.op_type == "Gather" and (axis is None or axis.as_int() == 0)


def _quantize(graph: ir.Graph, params: QuantizeEmbeddingParams) -> dict[str, Any]:
    """Rewrite `graph` in place; returns the table's name, shape and exactness."""
    from pocket_opt.onnx_graphs.block_quantization import quantize_blocks
    from pocket_opt.onnx_graphs.files import add_blocks, constant, matmul_nbits, replace_node

    tied = find_tied_table(graph)
    settled = _settled(tied, params)
    if settled is None:
        return {"tensors": 0, "left_out": {LEFT_FLOAT: [str(tied.table.name)]}}
    params = settled
    rows = constant(tied.table)
    vocab, width = rows.shape
    size = block_size(tied, params)
    blocks = quantize_blocks(rows, bits=params.bits, block_size=size, algorithm=params.algorithm)
    packed, scales = add_blocks(graph, str(tied.table.name), blocks)
    sizes = {"bits": params.bits, "block_size": size}
    for node in tied.heads:
        head_sizes = {**sizes, "accuracy_level": params.accuracy_level}
        replace_node(node, [matmul_nbits(node, (packed, scales), (width, vocab), head_sizes)])
    graph.remove(tied.transpose, safe=True)
    for node in tied.lookups:
        replace_node(node, _lookup(graph, node, packed, scales, width, sizes))
    return {
        "tensors": 1,
        "table": tied.table.name,
        "shape": [vocab, width],
        "bits": params.bits,
        "block_size": size,
        "readers": len(tied.lookups) + len(tied.heads),
        "sqnr_db": round(blocks.sqnr_db(rows), 1),
    }


def _lookup(
    graph: ir.Graph, node: ir.Node, packed: ir.Value, scales: ir.Value, width: int, sizes: dict[str, int]
) -> list[ir.Node]:
    """The nodes for a lookup: tokens [...] to rows by block [..., blocks, block_size] to rows [..., width]."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import CONTRIB, add_initializer, module_of, new_node

    module, tokens = module_of(node), node.inputs[1]
    if tokens is None or tokens.shape is None:
        raise PocketOptError(
            "the rank of the tokens is unknown", where=f"node {node.name}", fix="declare it at export"
        )
    # The scales need the rank of the table here and two axes in the head; a Reshape of a constant is folded at load.
    column = add_initializer(graph, f"{node.name}.scales_shape", np.array([0, 0, 1]))
    rows = add_initializer(graph, f"{node.name}.rows_shape", np.array([0] * len(tokens.shape) + [width]))
    by_block = new_node(module, "Reshape", [scales, column], suffix="_scales")
    axes = {"gather_axis": 0, "quantize_axis": 2, **sizes}
    inputs = [packed, tokens, by_block.outputs[0]]
    blocks = new_node(module, "GatherBlockQuantized", inputs, axes, domain=CONTRIB)
    return [by_block, blocks, new_node(module, "Reshape", [blocks.outputs[0], rows])]


PASS = QuantizeEmbedding()
