"""How large the libraries are that run a model, measured on those that are installed here.

They are what a program on this machine loads to run it, without Python and without what else a package brings along
(importers of other formats, plugins of other processors). A phone's build has other sizes: it is for another processor,
may have only the operators that are needed, and what a vendor's library for x86-64 holds beside (Qualcomm's: compiler
and simulator) it has not.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

NAME = "runtime_mb"
MB = 1e6


@dataclass(frozen=True)
class Package:
    """A distribution, and which of its files are libraries that running a model loads; each pattern may match some."""

    name: str
    patterns: tuple[str, ...]


ONNXRUNTIME = Package(
    "onnxruntime",
    (
        "*/libonnxruntime.so*",
        "*/libonnxruntime.*.dylib",
        "*/onnxruntime.dll",
        "*/*onnxruntime_providers_shared.*",
    ),
)
EXTENSIONS = Package("onnxruntime-extensions", ("*/_extensions_pydll*.so", "*/_extensions_pydll*.pyd"))
OPENVINO = (
    "openvino.*",
    "intel_cpu_plugin.*",
    "ir_frontend.*",
    "tbb.so*",
    "tbbbind*",
    "tbbmalloc.so*",
    "hwloc.*",
)
EXECUTORCH = ("", "_backend_xnnpack", "_kernels_optimized", "_threadpool")
QNN = ("*/libonnxruntime_providers_qnn.so", "*/onnxruntime_providers_qnn.dll", "*QnnHtp.*", "*QnnSystem.*")
TORCH = ("torch_cpu.*", "torch_python.*", "c10.*")
RUNTIMES = {
    "onnxruntime": (ONNXRUNTIME,),
    "openvino": (Package("openvino", tuple(f"*/libs/*{name}" for name in OPENVINO)),),
    "executorch": (
        Package("executorch", tuple(f"executorch/lib/libexecutorch{name}.*" for name in EXECUTORCH)),
    ),
    "executorch_qnn": (),  # they lie in a toolchain, and those installed here are of another version
    "qnn": (ONNXRUNTIME, Package("onnxruntime-qnn", QNN)),
    **dict.fromkeys(
        ("transformers", "torchscript"), (Package("torch", tuple(f"torch/lib/*{name}" for name in TORCH)),)
    ),
}
"""Runtime that the metadata of a model names -> its libraries."""


def runtime_size(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`runtime_mb` of a model with this metadata; empty where its runtime, or a list of its files, is not installed.

    MB are 10^6 bytes.
    """
    packages = list(RUNTIMES.get(str(metadata.get("runtime", "onnxruntime")), ()))
    if metadata.get("session", {}).get("extensions"):
        packages.append(EXTENSIONS)
    found = [(package, list(_libraries(package))) for package in packages]
    if not packages or not all(files for _, files in found):
        return {}
    told = "; ".join(f"{_titled(package)}: {_listed(files)}" for package, files in found)
    method = f"libraries installed here ({platform.system()} {platform.machine()}) in MB, {told}"
    sizes = [size for _, files in found for _, size in files]
    return {
        NAME: {"value": round(sum(sizes) / MB, 6), "unit": "MB", "n": len(sizes), "method": method},
    }


def _libraries(package: Package) -> Iterator[tuple[str, int]]:
    """Name and bytes of each library, by name."""
    try:
        installed: Distribution = distribution(package.name)
    except PackageNotFoundError:
        return
    for file in sorted(installed.files or (), key=str):
        path = Path(str(installed.locate_file(file)))
        if any(fnmatchcase(file.as_posix(), pattern) for pattern in package.patterns) and path.is_file():
            yield file.name, path.stat().st_size


def _titled(package: Package) -> str:
    return f"{package.name} {distribution(package.name).version}"


def _listed(files: Sequence[tuple[str, int]]) -> str:
    return " + ".join(f"{name} {size / MB:.1f}" for name, size in files)
