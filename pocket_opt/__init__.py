"""From a speech model to a measured bundle for the device it must run on.

The Python API is three functions; the command line is a shell over them:

    bundle = pocket_opt.optimize(recipe="pocket_whisper", target="cpu", level="HIGH")
    print(pocket_opt.load(bundle.path).transcribe("speech.wav").text)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocket_opt.api import load, optimize, plan

__all__ = ["__version__", "load", "optimize", "plan"]
__version__ = "0.1.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""ONNX Runtime's official builds report to Microsoft unless this is set before it is imported; children inherit it."""


def __getattr__(name: str) -> Any:
    """Load the API on first use, so that importing the package stays quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pocket_opt import api

    return getattr(api, name)
