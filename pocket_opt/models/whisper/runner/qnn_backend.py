"""Context binaries on a Qualcomm NPU through ONNX Runtime's QNN provider; `mel` runs on the CPU.

On a device the package onnxruntime-qnn drives the NPU; on x86-64 it holds Qualcomm's simulator, which takes its time
but gives the NPU's numbers. Its libraries are never part of a bundle.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .onnxruntime_backend import open_session
from .static_backend import TEXT, StaticBackend
from .transcript import RequestError

PROVIDER = "QNNExecutionProvider"
SIMULATED = ("x86_64", "amd64")
"""Machines on which there is no NPU to be had but its simulator, which must be told which chip to be."""

SHARING = {"ep.share_ep_contexts": "1"}
"""Of sessions whose graphs lie in one binary."""

NO_FALLBACK = {"session.disable_cpu_ep_fallback": "1"}
LAST_LINE = 400


@cache
def devices() -> list[Any]:
    """The NPU as ONNX Runtime sees it; RequestError where the provider is not installed or finds none.

    libsndfile crashes when it opens a file if Qualcomm's simulator (provider 2.7.0) was loaded before it.
    """
    import onnxruntime
    import soundfile  # noqa: F401

    try:
        import onnxruntime_qnn
    except ImportError:
        raise RequestError(
            "this model runs through onnxruntime-qnn, which is not installed: pip install onnxruntime-qnn"
        ) from None
    if not (found := _found()):
        try:
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        except Exception as error:
            raise RequestError(f"the QNN provider cannot be loaded: {error}") from error
        found = _found()
    if not found:
        raise RequestError("the QNN provider finds no NPU, and no simulator of one, on this machine")
    return found


def _found() -> list[Any]:
    from onnxruntime import get_ep_devices

    return [device for device in get_ep_devices() if device.ep_name == PROVIDER]


def provider_options(chip: Mapping[str, Any], extra: Mapping[str, str]) -> dict[str, str]:
    """What the provider is told; of `chip` the numbers `soc_model` and `htp_arch`, which belong together."""
    import onnxruntime_qnn

    options = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "enable_htp_fp16_precision": "1", **extra}
    if platform.machine().lower() in SIMULATED:
        options |= {name: str(chip[name]) for name in ("soc_model", "htp_arch")}
    return options


def open_npu_session(
    file: Path,
    options: Mapping[str, str],
    entries: Mapping[str, str] | None = None,
    *,
    fallback: bool = False,
) -> Any:
    """A session on the NPU; RequestError unless it is really that.

    Args:
        options: of the provider.
        entries: settings of the session.
        fallback: the CPU may compute a part.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # fatal; what goes wrong is raised
    settings.add_provider_for_devices(devices(), dict(options))
    for key, value in {**({} if fallback else NO_FALLBACK), **(entries or {})}.items():
        settings.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(str(file), settings)
    except Exception as error:  # the runtime's own classes share no base but this
        raise RequestError(f"{file.name}: {str(error)[-LAST_LINE:]}") from error
    if PROVIDER not in session.get_providers():
        raise RequestError(f"{file.name}: ONNX Runtime opened it without the NPU")
    return session


def open_backend(directory: Path, table: Mapping[str, Any], threads: int) -> StaticBackend:
    """The model that `table` (manifest or artifact description) describes; `threads` are those of the front end."""
    parts, about = table["components"], table["metadata"]["qnn"]
    options, session = provider_options(about, about["run_options"]), table["metadata"].get("session", {})
    shared = bool(about.get("share_weights"))
    if shared and platform.machine().lower() in SIMULATED:
        raise RequestError(
            "its binary holds several graphs with shared weights, which only a device can load"
        )
    sessions = {"mel": open_session(directory / parts["mel"]["files"][0], session, threads)}
    for name in about["graphs"]:
        file = directory / parts[name]["files"][0]
        entries = SHARING if shared and name in TEXT else None
        sessions[name] = open_npu_session(file, options, entries, fallback=about["allow_fallback"])
    return StaticBackend(sessions)
