"""One graph to a context binary, and the proofs that it is one: nothing left to the CPU, equal numbers once reloaded.

Without `disable_cpu_ep_fallback` the library answers a refusal with a session that computes everything on the CPU, and
says so in a log line only; so that switch is always on, unless the user allows a part for the CPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.models.whisper.runner.qnn_backend import SHARING, open_npu_session
from pocket_opt.models.whisper.runner.transcript import RequestError
from pocket_opt.onnx_graphs.exact_products import SESSION_ENTRIES
from pocket_opt.onnx_graphs.inputs import random_inputs
from pocket_opt.qnn.context import left_out

PARTITIONED = ("fallback to CPU EP has been explicitly disabled", "was not selected by that EP")
"""What ONNX Runtime says where the provider leaves nodes to others."""

STOP_SHARING = "ep.stop_share_ep_contexts"
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
NAMED = 5
LEAST_COSINE = {16: 0.99, 8: 0.95}
"""To ONNX Runtime on the CPU, over an output for random inputs, by the bits of activations; 16 bits give 0.9999. With 8
the NPU rounds between operators where the CPU does not."""


@dataclass(frozen=True)
class Compiled:
    """A graph that was compiled.

    Attributes:
        session: the one that compiled it, which can run it.
        left: name and operator of nodes that the CPU computes.
        operators: nodes of the graph before, those that only change the number format apart.
        seconds: that compiling took.
    """

    session: Any
    left: tuple[tuple[str, str], ...]
    operators: int
    seconds: float

    @property
    def share(self) -> float:
        """Percent of the operators that the NPU computes."""
        on_cpu = sum(operator not in QUANTIZERS for _, operator in self.left)
        return 100.0 * (1 - on_cpu / max(self.operators, 1))


def compile_graph(
    source: Path, wrapper: Path, options: Mapping[str, str], *, allow_fallback: bool = False
) -> Compiled:
    """Compile the graph in `source`; writes `wrapper` and its binary.

    Args:
        options: of the provider; chip and generation are among them.

    Raises:
        PocketOptError: there is a file already, the compiler fails, or it leaves nodes to the CPU without leave.
    """
    if wrapper.exists():
        raise PocketOptError(
            f"there is a compiled {wrapper.name} already",
            where=str(wrapper),
            fix="compile for each chip into a directory of its own",
        )
    began = time.perf_counter()
    try:
        session = _compile(source, wrapper, options, fallback=False)
    except RequestError as error:
        for file in (wrapper, wrapper.with_name(f"{wrapper.stem}_qnn.bin")):
            file.unlink(missing_ok=True)  # the library has written them before it found that nodes are left
        if not any(text in str(error) for text in PARTITIONED):
            raise _refused(source, error) from error
        session = _partly(source, wrapper, options, error, allow_fallback=allow_fallback)
    operators = sum(
        node.op_type not in QUANTIZERS for node in onnx.load(str(source), load_external_data=False).graph.node
    )
    return Compiled(session, tuple(left_out(wrapper)), operators, time.perf_counter() - began)


def compile_shared(graphs: Mapping[Path, Path], options: Mapping[str, str]) -> None:
    """Compile graphs (source -> wrapper) into one binary beside the first wrapper, in which equal weights lie once.

    Raises:
        PocketOptError: the compiler fails.
    """
    sessions = []  # all must live until the last one has written the binary
    for count, (source, wrapper) in enumerate(graphs.items(), start=1):
        last = {STOP_SHARING: "1"} if count == len(graphs) else {}
        try:
            sessions.append(_compile(source, wrapper, options, fallback=False, sharing={**SHARING, **last}))
        except RequestError as error:
            raise _refused(source, error) from error


def _compile(
    source: Path,
    wrapper: Path,
    options: Mapping[str, str],
    *,
    fallback: bool,
    sharing: Mapping[str, str] | None = None,
) -> Any:
    entries = {
        "ep.context_enable": "1",
        "ep.context_embed_mode": "0",
        "ep.context_file_path": str(wrapper),
        **(sharing or {}),
    }
    return open_npu_session(source, options, entries, fallback=fallback)


def _partly(
    source: Path, wrapper: Path, options: Mapping[str, str], why: RequestError, *, allow_fallback: bool
) -> Any:
    """Compile what the NPU takes, if that is allowed; else raise PocketOptError with the nodes that it does not."""
    try:
        if allow_fallback:
            session = _compile(source, wrapper, options, fallback=True)
            if wrapper.exists():
                return session
            raise why
        with tempfile.TemporaryDirectory() as scratch:
            draft = Path(scratch, wrapper.name)
            _compile(source, draft, options, fallback=True)
            # Nothing is written where the NPU takes nothing.
            left = [one for one in left_out(draft if draft.exists() else source) if one[1] not in QUANTIZERS]
    except RequestError:
        raise _refused(source, why) from why
    first = ", ".join(f"{name} ({operator})" for name, operator in left[:NAMED])
    raise PocketOptError(
        f"the NPU cannot take {len(left)} nodes of {source.stem}",
        where=first + (" ..." if len(left) > NAMED else ""),
        fix="replace them, or let the CPU compute them: nodes.compile.params.allow_fallback=true",
    )


def _refused(source: Path, error: RequestError) -> PocketOptError:
    return PocketOptError(
        f"Qualcomm's compiler refused graph '{source.stem}': {error}",
        where=source.name,
        fix="check target.soc, and that the number formats are those of the chip",
    )


def reopened(
    wrapper: Path, options: Mapping[str, str], *, fallback: bool = False, fix: str = "compile it again"
) -> Any:
    """A session on a context; PocketOptError where it cannot be opened."""
    try:
        return open_npu_session(wrapper, options, fallback=fallback)
    except RequestError as error:
        raise PocketOptError(
            f"the context binary cannot be loaded: {error}", where=wrapper.name, fix=fix
        ) from error


def require_same_when_reloaded(
    compiled: Compiled, wrapper: Path, options: Mapping[str, str], part: Component, *, fallback: bool
) -> dict[str, np.ndarray[Any, Any]]:
    """Open the context anew and run it beside the session that made it; gives its outputs for random inputs.

    Raises:
        PocketOptError: it cannot be opened, or one number differs.
    """
    again = reopened(wrapper, options, fallback=fallback)
    feeds, names = random_inputs(part), [port.name for port in part.outputs]
    expected, found = (session.run(names, feeds) for session in (compiled.session, again))
    for name, one, other in zip(names, expected, found, strict=True):
        if not np.array_equal(one, other, equal_nan=True):
            raise PocketOptError(
                f"the context binary gives other numbers when it is loaded again: output '{name}'",
                where=wrapper.name,
                fix="compile it again, and report this with the model's shapes",
            )
    return dict(zip(names, found, strict=True))


def least_cosine(graphs: Artifact) -> float:
    """How near binaries must be to the graphs that they are made of."""
    return LEAST_COSINE[graphs.metadata.get("quantization", {}).get("activations", 16)]


def require_near_cpu(
    source: Path, part: Component, found: Mapping[str, np.ndarray[Any, Any]], least: float
) -> float:
    """The cosine of `cosine_to_cpu`; PocketOptError where it is below `least`."""
    cosine = cosine_to_cpu(source, part, found)
    if cosine < least:
        raise PocketOptError(
            f"the compiled graph no longer agrees with the one it was made from: cosine {cosine:.4f}",
            where=source.name,
            allowed=f"at least {least}",
            fix="quantize it less, or report this with the model's shapes",
        )
    return cosine


def cosine_to_cpu(source: Path, part: Component, found: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """The lowest cosine over the outputs between `found` and what ONNX Runtime's CPU kernels give, same inputs."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for key, value in SESSION_ENTRIES.items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    names = list(found)
    expected = dict(zip(names, session.run(names, random_inputs(part)), strict=True))
    return min(_cosine(expected[name], found[name]) for name in names)


def _cosine(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    first, second = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 0.0


def multiplications(source: Path) -> int:
    """Products of numbers in one call of a graph of static shapes: what a simulated run takes its time for."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(source), load_external_data=False))
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [size.dim_value for size in value.type.tensor_type.shape.dim]
    return sum(_products(node, shapes) for node in graph.node)


def _products(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    out, right = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
    if not out or not right:
        return 0
    deep = right[1:] if node.op_type == "Conv" else [shapes.get(node.input[0], [0])[-1]]
    return int(np.prod(out, dtype=np.int64) * np.prod(deep, dtype=np.int64))
