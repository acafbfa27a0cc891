"""Take a Whisper checkpoint in the Hugging Face layout from a local directory, checked to be complete.

Applies to the model that a recipe names, after its download. Copies (or links, where files are read-only) what is
needed. Weights are read as safetensors; pickled ones only through torch's `weights_only`, which runs no code. What
follows from the rest and is missing is written anew: `generation_config.json`, `preprocessor_config.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pocket_opt.artifact import link_file
from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, planned
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.whisper.checkpoint import WhisperDims


@dataclass(frozen=True)
class LoadSourceParams:
    """Where the checkpoint is, and what identifies it.

    Attributes:
        digest: of the files, "" if nobody knows it; the path does not enter the key.
        weights: how the artifact labels them; "random" keeps error rates from being measured.
    """

    digest: str = planned("", instead="recipe.model.path")
    path: str = neutral("", instead="recipe.model.path")
    weights: Literal["pretrained", "random"] = "pretrained"


class LoadSource(Pass[LoadSourceParams]):
    """Validates the checkpoint and describes it as a source artifact."""

    version = 1
    Params = LoadSourceParams
    inputs = ()

    def requires(self, inputs: Inputs, params: LoadSourceParams) -> None:  # noqa: ARG002
        """The directory holds a Whisper: configuration, weights and tokenizer that fit together."""
        from pocket_opt.models.sources import content_digest
        from pocket_opt.models.whisper import checkpoint, source

        directory = Path(params.path)
        if not directory.is_dir():
            raise UserError(
                f"there is no directory {directory}",
                where="path",
                allowed="a model in the Hugging Face layout",
                fix="correct the path",
            )
        if params.digest and content_digest(directory) != params.digest:
            raise PocketOptError(
                "the model's files changed after they were planned with",
                where=str(directory),
                fix="run it again",
            )
        config = checkpoint.read_config(directory)
        dims = checkpoint.read_dims(config, directory / checkpoint.CONFIG)
        if checkpoint.weight_files(directory) or not source.pickled_files(directory):
            checkpoint.read_tensor_table(directory)
        source.check_processor(directory, dims)

    def run(
        self,
        inputs: Inputs,  # noqa: ARG002
        params: LoadSourceParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Bring the needed files into `workdir`, deriving those that are missing."""
        from pocket_opt.models.whisper import checkpoint, source
        from pocket_opt.models.whisper.processor_files import PROCESSOR_FILES

        directory = Path(params.path)
        weights = checkpoint.weight_files(directory)
        for name in (*weights, checkpoint.CONFIG, source.GENERATION_CONFIG, *PROCESSOR_FILES):
            if (directory / name).is_file():
                link_file(directory / name, workdir / name)
        if not weights:
            source.convert_pickles(source.pickled_files(directory), workdir)
        dims = checkpoint.read_dims(checkpoint.read_config(workdir), workdir / checkpoint.CONFIG)
        derived = _derive_missing(workdir, dims)
        artifact = source.source_artifact(workdir, dims, weights=params.weights)
        return Outcome(
            artifact,
            {"bytes": artifact.size("model"), "derived": derived, "converted_from_pickle": not weights},
        )

    def ensures(self, inputs: Inputs, params: LoadSourceParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The result is a complete checkpoint, also after conversion."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        open_checkpoint(outcome.artifact.root)


def _derive_missing(workdir: Path, dims: WhisperDims) -> list[str]:
    from pocket_opt.models.whisper import source
    from pocket_opt.models.whisper.processor_files import feature_extractor_config, generation_config
    from pocket_opt.models.whisper.vocabulary import read_vocabulary

    tables = {
        source.GENERATION_CONFIG: lambda: generation_config(
            read_vocabulary(workdir / source.TOKENIZER, dims.window_s), dims
        ),
        source.FEATURE_EXTRACTOR: lambda: feature_extractor_config(dims),
    }
    missing = [name for name in tables if not (workdir / name).is_file()]
    for name in missing:
        (workdir / name).write_text(json.dumps(tables[name](), indent=1, sort_keys=True) + "\n")
    return missing


PASS = LoadSource()
