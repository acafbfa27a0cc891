"""A bundle as an MLflow model that can be loaded and served: from code, without a pickle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocket_opt.runtimes import distributions
from pocket_opt.scratch import scratch

CODE = Path(__file__).with_name("mlflow_model.py")
"""What MLflow runs to load and serve the model; it never becomes a module of this package."""


EXTERNAL = "mlflow.model.isExternal"
"""Tag of a logged model whose files are not in MLflow."""


def upload_model(client: Any, model_id: str, bundle: Path, manifest: Mapping[str, Any]) -> None:
    """Give the logged model `model_id` the bundle as files that MLflow loads and serves."""
    with scratch("model") as folder:
        save_model(folder / "model", bundle, manifest)
        client.log_model_artifacts(model_id, str(folder / "model"))
    client.set_logged_model_tags(model_id, {EXTERNAL: "false"})


def save_model(path: Path, bundle: Path, manifest: Mapping[str, Any]) -> None:
    """Write the bundle as an MLflow model into the new directory `path`: recordings in, texts out."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    texts = Schema([ColSpec(DataType.string)])
    params = [ParamSpec("language", DataType.string, ""), ParamSpec("task", DataType.string, "transcribe")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no example of the input: it would be a recording
        mlflow.pyfunc.save_model(
            path,
            python_model=str(CODE),
            artifacts={"bundle": str(bundle)},
            signature=ModelSignature(texts, texts, ParamSchema(params)),
            pip_requirements=[f"mlflow=={mlflow.__version__}", *_requirements(manifest)],
        )


def _requirements(manifest: Mapping[str, Any]) -> list[str]:
    """What the bundle's runner needs, in the versions that it was measured with."""
    needed = {*distributions(str(manifest["metadata"]["runtime"])), "soundfile"}
    versions = manifest["tools"]
    return [f"{name}=={versions[name]}" if name in versions else name for name in sorted(needed)]
