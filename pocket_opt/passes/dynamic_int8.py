"""Dynamic INT8: linear layers with 8-bit weights, activations rounded to 8 bits as they come. No calibration.

Applies to MatMul nodes whose right side is a constant matrix: never to attention scores, and not to convolutions,
whose raw features lose too much (Moonshine PR 73: float-level WER without them, clearly worse with). Written in
standard operators (DynamicQuantizeLinear, MatMulInteger) that ONNX Runtime fuses at load. A quarter of the size, and of
the quantized forms the one that makes an encoder faster: whisper-tiny on AVX2 0.84 of the time of fp32, where 8-bit
`weight_only` takes 1.45; more with VNNI, AMX or i8mm.

Activations get *one* scale per tensor: a loud position, or another clip of the batch, coarsens all others. Where
answers must not depend on the batch, use `weight_only` with 8 bits.

On x86 with AVX2 or AVX512 but no VNNI the fast kernel adds pairs of products in 16 bits, which saturates: whisper-tiny
with random weights drops from 31 to 22 dB. The artifact therefore asks for `session.x64quantprecision` "1", which takes
the exact and slower kernel there. `reduce_range` avoids it too, by weights of 7 bits, at 26 dB, and keeps the fast
kernel: the encoder of whisper-tiny takes 0.66 of the time of fp32 instead of 0.83, and the sample model's WER is that
of fp32 (3.27 %; with 8 bits 3.32 %). With VNNI, AMX or i8mm it gains nothing.

`bits=4` stores 4 bits (by block of 32, as k_quant chooses them) that the runtime widens to 8 when it loads the graph
(`../onnx_graphs/widening.py`): as fast as 8 bits, where `weight_only` with 4 makes an encoder slower than fp32.
Sources: ONNX Runtime, quantization guide and onnxruntime_session_options_config_keys.h.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.precision import LEFT_FLOAT, LEFT_TO_OTHERS, Rule, searched
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]
    Levels = npt.NDArray[np.int8] | npt.NDArray[np.uint8]

Bits = Literal[8, 4]
LEFT_CONVOLUTIONS = "convolutions lose too much on raw features; ask for them with convolutions=true"
LEAST_DB = 3.0
"""Agreement on random inputs below which the rewrite is wrong, not only inexact."""


@dataclass(frozen=True)
class DynamicInt8Params:
    """What is quantized, and how.

    Attributes:
        components: graphs of the artifact; "*" is every one with linear layers.
        per_channel: one weight scale per output, else one per tensor.
        weight_type: "int8" (zero point 0) or "uint8" (128; for runtimes without int8 kernels).
        bits: of the stored weights; what is computed with has 8, or 7 where 4 are stored.
        reduce_range: weights of 7 bits, for the fast kernel of x86 without VNNI.
        include, exclude: shell-style patterns of node names.
        overrides: the precision of single layers, see `pocket_opt/precision.py`; the last that matches counts.
        convolutions: quantize them, too; see above what they lose.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    per_channel: bool = True
    weight_type: Literal["int8", "uint8"] = "int8"
    bits: Bits = 8
    reduce_range: bool = False
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    overrides: tuple[Rule, ...] = ()
    convolutions: bool = False


class DynamicInt8(Pass[DynamicInt8Params]):
    """Replaces MatMul by its integer form."""

    version = 4
    Params = DynamicInt8Params
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def check(self, params: DynamicInt8Params) -> None:
        """4 bits are widened to int8, with one scale a column."""
        if params.bits == 4 and (params.weight_type != "int8" or not params.per_channel):
            raise UserError(
                "weights stored in 4 bits are widened to int8 with one scale a column",
                where="params.bits=4",
                allowed="weight_type=int8, per_channel=true",
                fix="leave these two out, or store 8 bits",
            )

    def requires(self, inputs: Inputs, params: DynamicInt8Params) -> None:
        """The graphs exist and every pattern matches a node that can be quantized."""
        from pocket_opt.onnx_graphs.files import require_linear_layers
        from pocket_opt.onnx_graphs.layers import named, require_known

        require_known(inputs["model"], params.overrides)
        components = named(inputs["model"], params.components)
        require_linear_layers(inputs["model"], components, (*params.include, *params.exclude))

    def run(
        self, inputs: Inputs, params: DynamicInt8Params, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other; the artifact says what its sessions need."""
        from pocket_opt.onnx_graphs.exact_products import with_exact_products
        from pocket_opt.onnx_graphs.files import rewrite
        from pocket_opt.onnx_graphs.layers import called_for, is_dynamic, named

        model = inputs["model"]
        params = replace(
            params,
            components=named(model, params.components),
            overrides=(*searched(model), *params.overrides),
        )
        components = called_for(model, params.components, params.overrides, is_dynamic)
        outcome = rewrite(model, components, workdir, lambda graph: _quantize(graph, params), progress)
        if params.reduce_range:
            return outcome
        return replace(outcome, artifact=with_exact_products(outcome.artifact))

    def ensures(self, inputs: Inputs, params: DynamicInt8Params, outcome: Outcome) -> None:  # noqa: ARG002
        """Structure, ports and weights are right; the answers are like before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, list(outcome.did["components"]), least_db=LEAST_DB)


def _quantize(graph: ir.Graph, params: DynamicInt8Params) -> dict[str, Any]:
    """Rewrite `graph` in place; returns counts and what was left out by reason."""
    chosen, left_out = _choose(graph, params)
    writer = _Writer(graph, params)
    for node, bits in chosen:
        writer.replace(node, bits)
    convolutions = [node for node in graph if node.op_type == "Conv"]
    if not params.convolutions:
        left_out |= {LEFT_CONVOLUTIONS: [node.name or "" for node in convolutions]} if convolutions else {}
        convolutions = []
    for node in convolutions:
        writer.replace_convolution(node)
    return {
        "tensors": len(writer.weights),
        "nodes": len(chosen) + len(convolutions),
        "nodes_by_bits": dict(Counter(str(bits) for _, bits in chosen)),
        "convolutions": len(convolutions),
        "left_out": left_out,
    }


def _choose(
    graph: ir.Graph, params: DynamicInt8Params
) -> tuple[list[tuple[ir.Node, Bits]], dict[str, list[str]]]:
    """The layers to quantize with their bits; the names of others by reason: what is to be weight-only is left."""
    from pocket_opt.onnx_graphs.files import choose_linear_layers, linear_layers
    from pocket_opt.onnx_graphs.layers import is_dynamic, rule_of

    chosen, left_out = choose_linear_layers(graph, params.include, params.exclude)
    asked = [node for node in linear_layers(graph) if is_dynamic(rule_of(node, params.overrides))]
    found: list[tuple[ir.Node, Bits]] = []
    for node in dict.fromkeys([*chosen, *asked]) if graph.name in params.components else asked:
        rule = rule_of(node, params.overrides)
        if rule is None:
            found.append((node, params.bits))
        elif rule.bits in (None, 4, 8) and (
            is_dynamic(rule) or (rule.bits != 4 and rule.activations is None)  # 4 bits alone are weight-only
        ):
            found.append((node, rule.bits or params.bits))
        else:
            reason = LEFT_FLOAT if rule.bits == "none" else LEFT_TO_OTHERS
            left_out.setdefault(reason, []).append(node.name or "")
    return found, left_out


def quantize_columns(weight: Floats, params: DynamicInt8Params) -> tuple[Levels, Floats]:
    """8-bit levels of `weight` [K, N] and its scales, [N] or scalar: w = (level - zero point) * scale."""
    import numpy as np

    limit = np.float32(63 if params.reduce_range else 127)
    peak = np.abs(weight).max(axis=0 if params.per_channel else None)
    scale = np.where(peak == 0, np.float32(1), peak / limit)
    levels = np.clip(np.rint(weight / scale), -limit, limit).astype(np.int8)
    if params.weight_type == "uint8":
        return (levels.astype(np.int16) + 128).astype(np.uint8), scale
    return levels, scale


def _columns(kernel: Floats) -> Floats:
    """A convolution's weight [out, in, width] as the matrix [in * width, out] that it multiplies with."""
    return kernel.reshape(len(kernel), -1).T


class _Writer:
    """Writes integer nodes into a graph; an input or weight that several nodes share is quantized once."""

    def __init__(self, graph: ir.Graph, params: DynamicInt8Params) -> None:
        self.weights: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self._graph, self._params = graph, params
        self._activations: dict[ir.Value, tuple[ir.Value, ...]] = {}

    def replace(self, node: ir.Node, bits: Bits) -> None:
        """Put the integer form in the place of the MatMul `node`, its weight stored in so many bits."""
        from pocket_opt.onnx_graphs.files import FLOAT, module_of, new_node, replace_node

        module = module_of(node)
        levels, scale, zero = self._activation(node)
        weight, weight_scale, weight_zero = self._weight(node, bits)
        product = new_node(module, "MatMulInteger", [levels, weight, zero, weight_zero])
        exact = new_node(module, "Cast", product.outputs, {"to": FLOAT})
        scales = new_node(module, "Mul", [scale, weight_scale], suffix="_scales")
        scaled = new_node(module, "Mul", [exact.outputs[0], scales.outputs[0]])
        replace_node(node, [product, exact, scales, scaled])

    def replace_convolution(self, node: ir.Node) -> None:
        """Put the integer form in the place of the Conv `node`: [batch, in, frames] to [batch, out, frames]."""
        from pocket_opt.onnx_graphs.files import FLOAT, module_of, new_node, replace_node

        module = module_of(node)
        levels, scale, zero = self._activation(node)
        weight, weight_scale, weight_zero = self._weight(node)
        product = new_node(module, "ConvInteger", [levels, weight, zero, weight_zero])
        for attribute in node.attributes.values():
            product.attributes.add(attribute)
        exact = new_node(module, "Cast", product.outputs, {"to": FLOAT})
        scales = new_node(module, "Mul", [scale, weight_scale], suffix="_scales")
        scaled = new_node(module, "Mul", [exact.outputs[0], scales.outputs[0]])
        new = [product, exact, scales, scaled]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            new.append(new_node(module, "Add", [scaled.outputs[0], self._column(node.inputs[2])]))
        replace_node(node, new)

    def _column(self, bias: ir.Value) -> ir.Value:
        """A bias [out] as [out, 1], to be added to [batch, out, frames]."""
        from pocket_opt.onnx_graphs.files import add_initializer, constant

        return add_initializer(self._graph, f"{bias.name}.column", constant(bias)[:, None])

    def _activation(self, node: ir.Node) -> tuple[ir.Value, ...]:
        from pocket_opt.onnx_graphs.files import module_of, new_node

        source = node.inputs[0]
        assert source is not None
        if source not in self._activations:
            rounding = new_node(module_of(node), "DynamicQuantizeLinear", [source], outputs=3)
            self._graph.insert_before(node, rounding)
            self._activations[source] = tuple(rounding.outputs)
        return self._activations[source]

    def _weight(self, node: ir.Node, bits: Bits = 8) -> tuple[ir.Value, ...]:
        value = node.inputs[1]
        assert value is not None
        if value not in self.weights:
            self.weights[value] = self._stored(value) if bits == 8 else self._widened(node, value)
        return self.weights[value]

    def _stored(self, value: ir.Value) -> tuple[ir.Value, ...]:
        """Levels, scales and zero point of a weight in 8 bits."""
        import numpy as np

        from pocket_opt.onnx_graphs.files import add_initializer, constant

        full = constant(value)
        levels, scales = quantize_columns(full if full.ndim == 2 else _columns(full), self._params)
        if full.ndim > 2:
            levels, scales = levels.T.reshape(full.shape), np.reshape(scales, (-1, 1))
        zero = np.array(128 if levels.dtype == np.uint8 else 0, levels.dtype)
        parts = (("", levels), (".scales", scales), (".zero_point", zero))
        return tuple(add_initializer(self._graph, f"{value.name}.q8{part}", array) for part, array in parts)

    def _widened(self, node: ir.Node, value: ir.Value) -> tuple[ir.Value, ...]:
        """The same for a weight in 4 bits."""
        import numpy as np

        from pocket_opt.onnx_graphs.files import add_initializer, constant
        from pocket_opt.onnx_graphs.widening import store_widened

        name = f"{value.name}.q4"
        levels, scales = store_widened(self._graph, node, name, constant(value))
        zero = np.array(0, np.int8)
        parts = (("scales", scales), ("zero_point", zero))
        return levels, *(add_initializer(self._graph, f"{name}.{part}", array) for part, array in parts)


PASS = DynamicInt8()
