"""Speech runtimes by the name that an artifact's metadata gives; each is imported when it is opened."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from pocket_opt.errors import UserError, unknown_name

if TYPE_CHECKING:
    from pocket_opt.artifact import Artifact
    from pocket_opt.runtimes.base import SpeechRuntime

RUNTIMES = {
    "executorch": ("executorch", "torch", "numpy", "tokenizers"),
    "executorch_qnn": ("torch", "numpy", "tokenizers"),
    "onnxruntime": ("onnxruntime", "numpy", "tokenizers"),
    "openvino": ("openvino", "numpy", "tokenizers"),
    "qnn": ("onnxruntime", "onnxruntime-qnn", "numpy", "tokenizers"),
    "torchscript": ("torch", "numpy", "tokenizers"),
    "transformers": ("transformers", "torch", "numpy", "tokenizers"),
}
"""Runtime (and its module here) -> the distributions whose versions can change what it measures."""


def open_runtime(artifact: Artifact, *, threads: int = 0) -> SpeechRuntime:
    """Open a model in the runtime it was made for; `threads` 0 leaves their number to the runtime.

    Raises:
        UserError: the artifact names no runtime, or one that is not known here, or is no model of speech.
    """
    name = str(artifact.metadata.get("runtime", ""))
    distributions(name)
    _require_speech(artifact)
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("SpeechRuntime", module.open_model(artifact, threads=threads))


def _require_speech(artifact: Artifact) -> None:
    """Raise UserError for a model that nobody here knows to be one of speech."""
    if artifact.metadata.get("family") == "optimum":
        raise UserError(
            f"this model ({artifact.metadata.get('class', 'no family')}) is not known to hear speech",
            where=str(artifact.root),
            allowed="a model of the family whisper",
            fix="run its graphs on arrays: python run.py --help in the bundle",
        )


def distributions(runtime: str) -> tuple[str, ...]:
    """The distributions whose versions belong into the key of a measurement on `runtime`."""
    if runtime not in RUNTIMES:
        raise unknown_name("runtime", runtime, RUNTIMES, where="metadata.runtime of the model")
    return RUNTIMES[runtime]
