"""Runs the graphs of a bundle, or its source model, on named arrays; copied into every bundle of a generic model.

It imports nothing of the package, so that the bundle works alone, and the package measures with it.
"""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # else ONNX Runtime reports to Microsoft from its import on
