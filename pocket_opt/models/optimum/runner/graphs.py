"""The ONNX graphs of a model on the CPU with ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from .opening import Arrays, RequestError


class Graphs:
    """Sessions on the graphs in `directory`, as its `table` (manifest or artifact description) lists them.

    Args:
        threads: of each session; 0 leaves their number to ONNX Runtime.

    Attributes:
        load_seconds: time that opening took.
    """

    def __init__(self, directory: Path, table: Mapping[str, Any], *, threads: int = 0) -> None:
        began = time.perf_counter()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        for key, value in table["metadata"].get("session", {}).get("entries", {}).items():
            options.add_session_config_entry(key, value)
        files = {name: part["files"][0] for name, part in table["components"].items() if part["inputs"]}
        self._sessions = {
            name: onnxruntime.InferenceSession(directory / file, options, providers=["CPUExecutionProvider"])
            for name, file in files.items()
        }
        self.load_seconds = time.perf_counter() - began

    def run(self, graph: str, inputs: Arrays) -> dict[str, Any]:
        """The outputs of one graph by name; RequestError for a graph that is not there."""
        if graph not in self._sessions:
            raise RequestError(f"there is no graph '{graph}' (there are: {', '.join(self._sessions)})")
        session = self._sessions[graph]
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(inputs)), strict=True))
