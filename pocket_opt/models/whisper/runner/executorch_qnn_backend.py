"""ExecuTorch programs whose methods a Qualcomm NPU computes, or on x86-64 its simulator; `mel` runs on the CPU.

The delegate loads Qualcomm's libraries by name, so the process has to be started with their folder in LD_LIBRARY_PATH.
They are never part of a bundle.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .executorch_backend import ExecutorchBackend
from .transcript import RequestError

LIBRARY = "libQnnHtp.so"
SIMULATED = ("x86_64", "amd64")
SAY_WHERE = """Qualcomm's libraries are not in LD_LIBRARY_PATH. Those of onnxruntime-qnn 2.5.0 fit ExecuTorch 1.5:
  pip install executorch==1.5.1 onnxruntime-qnn==2.5.0
  site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  export QNN_SDK_ROOT= LD_LIBRARY_PATH=$site/onnxruntime_qnn:$site/onnxruntime_qnn.libs
With an SDK of Qualcomm's: export QNN_SDK_ROOT=FOLDER LD_LIBRARY_PATH=$QNN_SDK_ROOT/lib/x86_64-linux-clang"""


def open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> ExecutorchBackend:
    """The model that `table` describes; RequestError where Qualcomm's libraries cannot be found."""
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    here = any((folder / LIBRARY).is_file() for folder in folders)
    if platform.machine().lower() in SIMULATED and not here:
        raise RequestError(SAY_WHERE)
    return ExecutorchBackend(directory, table, threads)
