"""Take a checkpoint of any architecture in the Hugging Face layout from a local directory, for `family: optimum`.

Applies to the model that such a recipe names, after its download. What it can say without knowing the
architecture: the files are there, the configuration names a class of transformers, the weights are safetensors (pickled
ones are converted through torch's `weights_only`, which runs no code), and no code of the model's own is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress
from pocket_opt.passes.load_source import LoadSourceParams
from pocket_opt.worker import silent


class LoadCheckpoint(Pass[LoadSourceParams]):
    """Validates the checkpoint and describes it as a source artifact."""

    version = 2
    Params = LoadSourceParams
    tools = ("transformers", "safetensors")
    inputs = ()

    def requires(self, inputs: Inputs, params: LoadSourceParams) -> None:  # noqa: ARG002
        """Configuration and weights are there, unchanged, and of a class that transformers has."""
        from pocket_opt.models import layout
        from pocket_opt.models.checkpoint_files import require_unchanged

        directory = Path(params.path)
        require_unchanged(directory, params.digest)
        _require_class(layout.read_table(directory / layout.CONFIG), directory / layout.CONFIG)

    def run(
        self,
        inputs: Inputs,  # noqa: ARG002
        params: LoadSourceParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Bring the files into `workdir`."""
        from pocket_opt.models.checkpoint_files import bring_checkpoint

        pickled = bring_checkpoint(Path(params.path), workdir)
        artifact = describe(workdir, params.weights)
        return Outcome(artifact, {"bytes": artifact.size("model"), "converted_from_pickle": pickled})


def describe(root: Path, weights: str) -> Artifact:
    """The checkpoint in `root` as a source artifact; `weights` is "pretrained" or "random"."""
    from pocket_opt.models import layout

    config = layout.read_table(root / layout.CONFIG)
    settings = (layout.CONFIG, layout.GENERATION_CONFIG)
    own = (*layout.weight_files(root), *(name for name in settings if (root / name).is_file()))
    components = {"model": Component("transformers", own)}
    processor = tuple(name for name in layout.model_files(root) if name not in own)
    if processor:
        components["processor"] = Component("processor", processor)
    metadata = {
        "family": "optimum",
        "runtime": "transformers",
        "weights": weights,
        "model_type": str(config["model_type"]),
        "class": str(config["architectures"][0]),
    }
    return Artifact(root, components, metadata)


def _require_class(config: dict[str, Any], path: Path) -> None:
    import transformers

    names = config.get("architectures") or [""]
    named = getattr(transformers, str(names[0]), None)
    is_model = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
    if config.get("model_type") is None or not is_model:
        raise UserError(
            f"transformers {transformers.__version__} has no model class '{names[0]}'"
            + (", and code that comes with a model is not run" if "auto_map" in config else ""),
            where=f"{path}: architectures",
            allowed="a model that save_pretrained() of transformers wrote",
            fix="choose another model, or correct model_type and architectures",
        )


PASS = LoadCheckpoint()
