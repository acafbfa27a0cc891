"""Runs a program for another process: named methods, arrays in and out; in the toolchain's environment, stand-alone.

A message is one line of JSON, whose `arrays` are types and shapes, and after it their bytes. The parent reads and
writes them with the same functions.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]


def send(stream: IO[bytes], told: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Write one message."""
    about = [{"dtype": str(array.dtype), "shape": array.shape} for array in arrays]
    stream.write(json.dumps({**told, "arrays": about}).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[Array]]:
    """Read one message; EOFError where there is none."""
    line = stream.readline()
    if not line:
        raise EOFError
    told = json.loads(line)
    return told, [_array(stream, about) for about in told.pop("arrays")]


def _array(stream: IO[bytes], about: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    wanted = int(np.prod(shape)) * dtype.itemsize
    found = stream.read(wanted)
    if len(found) < wanted:
        raise EOFError
    return np.frombuffer(bytearray(found), dtype).reshape(shape)


def main(program: str, runner: str) -> None:
    """Open `program` with the runner in the folder `runner`, and answer until nobody asks."""
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)  # native libraries write to standard output
        sys.path.insert(0, runner)
        from runner.executorch_backend import load_method, open_program  # type: ignore[import-not-found]
        from runner.transcript import RequestError  # type: ignore[import-not-found]

        try:
            opened = open_program(Path(program))
        except RequestError as error:
            send(channel, {"error": str(error)})
            return
        send(channel, {"methods": sorted(opened.method_names)})
        methods: dict[str, Any] = {}
        with contextlib.suppress(EOFError):
            while True:
                asked, arrays = receive(sys.stdin.buffer)
                name = asked["method"]
                try:
                    methods[name] = methods.get(name) or load_method(opened, name)
                    found = _results(methods[name], arrays)
                except (RequestError, RuntimeError) as error:
                    send(channel, {"error": f"method '{name}' failed: {error}"})
                    continue
                send(channel, {}, found)


def _results(method: Any, arrays: Sequence[Array]) -> list[Array]:
    import torch

    return [result.numpy() for result in method([torch.from_numpy(array) for array in arrays])]


if __name__ == "__main__":
    main(*sys.argv[1:])
