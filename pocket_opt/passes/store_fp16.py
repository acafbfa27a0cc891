"""FP16 weights: stored in half precision and widened at load, or computed in half precision throughout.

`compute="stored"` (for CPUs): each float32 initializer becomes float16 with a Cast behind it, which ONNX Runtime folds
into a float32 constant when it loads the graph. Half the file, no slower, equal memory. Applies to any graph, also
after quantization, where it halves scales, convolutions and positions. Tensors that float16 does not hold well are
left out: beyond 65,504, or with a relative error above 0.1 % because they lie among the subnormals. A table of
sinusoidal positions is not stored at all but computed at load (`../onnx_graphs/sinusoids.py`).

`compute="native"` (for devices that compute in fp16): values between nodes are float16 too, as far as that is safe
(`../half_precision.py`). Ports keep their types. On a CPU without fp16 arithmetic it only costs time. LayerNorm must be
one operator: decomposed, its square overflows (onnxruntime issue 31626).

Not for the mel front end: its tables must stay exact, and they are computed in the graph anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.artifact import Artifact
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.worker import silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir as ir

    Floats = npt.NDArray[np.float32]

MAX_RELATIVE_ERROR = 1e-3
"""Of a tensor's norm. Rounding to float16 costs 3e-4 at most where no weight is subnormal."""


LEAST_DB = 10.0
"""Agreement on random inputs below which the rewrite is wrong, not only inexact: 60 dB in float32 graphs, but after
`dynamic_int8` each change of a scale moves activations across rounding limits (23 dB in a random whisper-small)."""


@dataclass(frozen=True)
class StoreFp16Params:
    """What is stored in half precision.

    Attributes:
        components: graphs of the artifact; "*" is every one with something to store.
        compute: "stored" or "native", see above.
        min_bytes: smaller tensors stay in "stored", because a Cast takes about 150 bytes too.
        keep: shell-style patterns of initializer names, and in "native" of node names, that stay float32.
    """

    components: tuple[str, ...] = ("encoder", "decoder")
    compute: Literal["stored", "native"] = "stored"
    min_bytes: int = 1024
    keep: tuple[str, ...] = ()


class StoreFp16(Pass[StoreFp16Params]):
    """Halves float32 weights."""

    version = 2
    Params = StoreFp16Params
    tools = ("onnx", "onnx_ir", "onnxruntime", "numpy")

    def requires(self, inputs: Inputs, params: StoreFp16Params) -> None:
        """The graphs exist and each pattern matches something."""
        from pocket_opt.onnx_graphs.files import load, parameters, require_graphs, require_matches

        source = inputs["model"]
        components = _components(source, params)
        require_graphs(source, components)
        graphs = [load(source.path(name)).graph for name in components]
        names = [value.name for graph in graphs for value, _ in parameters(graph)]
        nodes = [node.name for graph in graphs for node in graph] if params.compute == "native" else []
        require_matches([*names, *nodes], params.keep, "keep")

    def run(
        self, inputs: Inputs, params: StoreFp16Params, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Rewrite one graph after the other."""
        from pocket_opt.onnx_graphs.files import rewrite

        change = _store if params.compute == "stored" else _convert
        model = inputs["model"]
        return rewrite(
            model, _components(model, params), workdir, lambda graph: change(graph, params), progress
        )

    def ensures(self, inputs: Inputs, params: StoreFp16Params, outcome: Outcome) -> None:  # noqa: ARG002
        """Structure, ports and weights are right; the answers are like before."""
        from pocket_opt.onnx_graphs.checks import check_rewrite

        check_rewrite(inputs["model"], outcome.artifact, list(outcome.did["components"]), least_db=LEAST_DB)


def _components(model: Artifact, params: StoreFp16Params) -> tuple[str, ...]:
    from pocket_opt.onnx_graphs.layers import named

    return named(model, params.components, lambda graph: _choose(graph, params)[0])


def unfit(array: Floats) -> str:
    """Why float16 does not hold `array` well, or an empty string."""
    import numpy as np

    limits = np.finfo(np.float16)
    peak = float(np.abs(array).max(initial=0))
    if peak > float(limits.max):
        return "beyond the range of float16"
    lost = np.linalg.norm(array - array.astype(np.float16))
    if 0 < peak < float(limits.smallest_normal) or lost > MAX_RELATIVE_ERROR * np.linalg.norm(array):
        return "too small for float16"
    return ""


def _choose(graph: ir.Graph, params: StoreFp16Params) -> tuple[list[ir.Value], dict[str, list[str]]]:
    """The float32 initializers that become float16, and the names of the others by reason."""
    from pocket_opt.onnx_graphs.files import FLOAT, constant, matches, parameters

    chosen, left_out = [], dict[str, list[str]]()
    for value, tensor in parameters(graph):
        if tensor.dtype != FLOAT:
            continue
        if matches(value.name, params.keep):
            reason = "kept by pattern"
        elif params.compute == "stored" and tensor.nbytes < params.min_bytes:
            reason = f"below {params.min_bytes} bytes"
        else:
            reason = unfit(constant(value))
        if reason:
            left_out.setdefault(reason, []).append(str(value.name))
        else:
            chosen.append(value)
    return chosen, left_out


def _store(graph: ir.Graph, params: StoreFp16Params) -> dict[str, Any]:
    """Store weights as float16 with a Cast behind each; returns counts and what was left out by reason."""
    import numpy as np

    from pocket_opt.onnx_graphs.files import FLOAT, add_initializer, constant, new_node, remove_initializer
    from pocket_opt.onnx_graphs.sinusoids import computed, is_sinusoidal

    chosen, left_out = _choose(graph, params)
    first, formulas = graph[0], []
    for value in chosen:
        name, full = str(value.name), constant(value)
        if is_sinusoidal(full):
            formulas.append(name)
            remove_initializer(graph, value)
            nodes = computed(graph, name, full.shape)
            value.replace_all_uses_with(nodes[-1].outputs[0])
            graph.insert_before(first, nodes)
            continue
        half = full.astype(np.float16)
        cast = new_node(name, "Cast", [None], {"to": FLOAT})
        value.replace_all_uses_with(cast.outputs[0])
        remove_initializer(graph, value)
        cast.replace_input_with(0, add_initializer(graph, name, half))
        graph.insert_before(first, cast)
    return {"tensors": len(chosen), "computed": formulas, "left_out": left_out}


def _convert(graph: ir.Graph, params: StoreFp16Params) -> dict[str, Any]:
    """Compute in float16 where that is safe; returns counts and what was left out by reason."""
    from pocket_opt.onnx_graphs.half_precision import HalfPrecision

    chosen, left_out = _choose(graph, params)
    done = HalfPrecision(graph, fits=set(chosen), keep=params.keep)
    counts = {"nodes_fp16": done.nodes_fp16, "nodes_fp32": done.nodes_fp32}
    return {"tensors": done.tensors, **counts, "left_out": left_out}


PASS = StoreFp16()
