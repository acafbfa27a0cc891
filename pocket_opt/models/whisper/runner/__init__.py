"""The stand-alone runner of Whisper models: copied into every bundle as `runner/`, and used for every measurement.

It needs numpy, tokenizers, soundfile and the model's own runtime, and nothing of pocket_opt: what is measured is what
ships. `command` is its command line, `opening` finds the runtime that a model was made for.
"""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # else ONNX Runtime reports to Microsoft from its import on
