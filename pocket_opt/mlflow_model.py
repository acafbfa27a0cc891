"""A bundle as an MLflow model, from code: MLflow copies this file into the model and runs it where the model is loaded.

It holds no pickle and needs nothing of pocket_opt: the runner inside the bundle transcribes. An entry of the input is
the path of an audio file, or the file itself as a data URL (`data:audio/wav;base64,...`), which is what a client of
`mlflow models serve` sends that shares no disk with the server.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

INLINE = "data:"


class Transcriber(PythonModel):  # type: ignore[misc, unused-ignore]
    """Audio files in, texts out."""

    def load_context(self, context: Any) -> None:
        """Open the bundle's model in its runtime."""
        bundle = Path(context.artifacts["bundle"])
        self._runner = _runner_of(bundle)
        self._model = _module(self._runner, "opening").open_model(bundle)

    def predict(self, context, model_input, params: Mapping[str, Any] | None = None) -> list[str]:  # type: ignore[no-untyped-def]  # noqa: ARG002
        """The text of each entry of `model_input`: a list of strings, or a table whose first column holds them.

        Args:
            params: `language` (code of the speech; "" detects it) and `task` ("transcribe" or "translate").

        Raises:
            ValueError: a file cannot be read as audio, or the model does not know the language or the task.
        """
        entries = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        given = params or {}
        options = _module(self._runner, "transcript").DecodeOptions(
            language=given.get("language") or None, task=given.get("task") or "transcribe"
        )
        return [self._transcribe(str(entry), options) for entry in entries]

    def _transcribe(self, entry: str, options: Any) -> str:
        """The text of one recording; one at a time, so that no answer depends on who else asks."""
        with _file(entry) as path:
            samples = _module(self._runner, "audio").read_audio(path, self._model.sample_rate)
        return str(self._model.transcribe([samples], options)[0].text)


@contextmanager
def _file(entry: str) -> Iterator[Path]:
    """The recording as a file: the one that is named, or a temporary one."""
    if not entry.startswith(INLINE):
        yield Path(entry)
        return
    header, _, content = entry.partition(",")
    if not header.endswith(";base64"):
        raise ValueError("a recording inside the request is a data URL in base64: data:audio/wav;base64,...")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(base64.b64decode(content, validate=True))
        yield path


def _runner_of(bundle: Path) -> str:
    """Import the runner of `bundle` under a name of its own, so that a process may hold several; gives the name."""
    name = f"bundle_runner_{hashlib.sha256(str(bundle.resolve()).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        folder = bundle / "runner"
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ValueError(f"{bundle} holds no runner")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return name


def _module(runner: str, name: str) -> Any:
    return importlib.import_module(f"{runner}.{name}")


mlflow.models.set_model(Transcriber())
