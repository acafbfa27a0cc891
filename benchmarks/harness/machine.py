"""What this machine can do at best: reading memory, and matrix products in 8 and 32 bits through ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS, DEPTH, COLUMNS = 1500, 1024, 1024
"""A linear layer over 30 s of audio, large enough that its overhead does not count."""

STREAMED, RESIDENT = 256 << 20, 8 << 20
"""Bytes each thread set reads: far past every cache, and well inside the last one."""


@dataclass(frozen=True)
class Rates:
    """Measured with the threads of the benchmark.

    Attributes:
        stream_gb_s, cache_gb_s: reading what lies past the caches, and what lies in the last one.
        fp32_gflop_s, int8_gop_s: matrix products; a multiplication and an addition are two operations.
        cache_bytes: size of the last-level cache, 0 if unknown.
    """

    stream_gb_s: float
    cache_gb_s: float
    fp32_gflop_s: float
    int8_gop_s: float
    cache_bytes: int


def measure(threads: int, priority: int = 0) -> Rates:
    """The rates, measured by a process of its own that has the niceness of the engines."""
    command = [*prefix(priority), sys.executable, __file__, str(threads)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Rates(**json.loads(found))


def prefix(priority: int) -> list[str]:
    """What goes before a command to give it a niceness; nothing for 0."""
    return ["nice", "-n", str(priority)] if priority else []


def _measure(threads: int) -> Rates:
    """Best of several tries of each, within a few seconds."""
    operations = 2e-9 * ROWS * DEPTH * COLUMNS
    return Rates(
        _reading(STREAMED, threads),
        _reading(RESIDENT, threads),
        operations / _best(_product("MatMul", threads)),
        operations / _best(_product("MatMulInteger", threads)),
        last_cache_bytes(),
    )


def last_cache_bytes() -> int:
    """Size of the largest cache of the first core; 0 if the system does not say."""
    sizes = [
        file.read_text().strip() for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 1 << 10, "M": 1 << 20}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=0)


def _reading(total: int, threads: int) -> float:
    parts = np.ones(total // 4, np.float32).reshape(threads, -1)
    passes = max(1, STREAMED // total)  # handing work to a thread takes as long as reading a few megabytes

    def read(part: Any) -> None:
        for _ in range(passes):
            np.max(part)

    with ThreadPoolExecutor(threads) as pool:
        return 1e-9 * total * passes / _best(lambda: list(pool.map(read, parts)))


def _product(operator: str, threads: int) -> Callable[[], Any]:
    """A session of one product `[ROWS, DEPTH] x [DEPTH, COLUMNS]` with constant weights."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    whole = operator == "MatMulInteger"
    left = rng.integers(0, 255, (ROWS, DEPTH)).astype(np.uint8 if whole else np.float32)
    right = rng.integers(-64, 64, (DEPTH, COLUMNS)).astype(np.int8 if whole else np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.UINT8 if whole else TensorProto.FLOAT, left.shape)
    y = helper.make_tensor_value_info("y", TensorProto.INT32 if whole else TensorProto.FLOAT, (ROWS, COLUMNS))
    node = helper.make_node(operator, ["x", "w"], ["y"])
    graph = helper.make_graph([node], operator, [x], [y], [numpy_helper.from_array(right, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": left})


def _best(run: Callable[[], Any], tries: int = 12) -> float:
    """Seconds of the fastest of `tries` calls; others only say what else the machine was doing."""
    times = []
    for _ in range(tries):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(int(sys.argv[1])))))
