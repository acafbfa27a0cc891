"""Take a Whisper checkpoint in the Hugging Face layout from a local directory, checked to be complete.

Applies to the model that a recipe names, after its download. Copies (or links, where files are read-only) what is
needed. Weights are read as safetensors; pickled ones only through torch's `weights_only`, which runs no code. What
follows from the rest and is missing is written anew: `tokenizer.json`, `preprocessor_config.json`, and in
`generation_config.json` whatever older checkpoints do not state. Settings there that greedy decoding does not have
(beams, penalties, thresholds, temperatures, forced tokens) are left out and named, so that every level decodes alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocket_opt.errors import UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, planned
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.whisper.checkpoint import WhisperDims

TIED_HEAD = "proj_out.weight"
"""The output head of a Whisper, which is its token embedding."""


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

    version = 2
    Params = LoadSourceParams
    tools = ("tokenizers",)
    inputs = ()

    def requires(self, inputs: Inputs, params: LoadSourceParams) -> None:  # noqa: ARG002
        """The directory holds a Whisper: configuration, weights and tokenizer that fit together."""
        from pocket_opt.models import layout
        from pocket_opt.models.checkpoint_files import require_unchanged
        from pocket_opt.models.whisper import checkpoint, source

        directory = Path(params.path)
        if not directory.is_dir():
            raise UserError(
                f"there is no directory {directory}",
                where="path",
                allowed="a model in the Hugging Face layout",
                fix="correct the path",
            )
        require_unchanged(directory, params.digest)
        config = checkpoint.read_config(directory)
        for name in layout.model_files(directory):
            if name.endswith(".json"):
                layout.read_table(directory / name)
        if layout.weight_files(directory)[0] in layout.SAFETENSORS:
            checkpoint.open_checkpoint(directory)
        source.check_processor(directory, checkpoint.read_dims(config, directory / layout.CONFIG))

    def run(
        self,
        inputs: Inputs,  # noqa: ARG002
        params: LoadSourceParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Bring the needed files into `workdir`, deriving those that are missing."""
        from pocket_opt.models import layout
        from pocket_opt.models.checkpoint_files import bring_checkpoint
        from pocket_opt.models.whisper import checkpoint, source

        directory = Path(params.path)
        pickled = bring_checkpoint(directory, workdir, without=(TIED_HEAD,))
        dims = checkpoint.read_dims(checkpoint.read_config(workdir), workdir / layout.CONFIG)
        did = _derive_missing(workdir, dims)
        artifact = source.source_artifact(workdir, dims, weights=params.weights)
        return Outcome(artifact, {"bytes": artifact.size("model"), "converted_from_pickle": pickled, **did})

    def ensures(self, inputs: Inputs, params: LoadSourceParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The result is a complete checkpoint, also after conversion."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        open_checkpoint(outcome.artifact.root)


def _derive_missing(workdir: Path, dims: WhisperDims) -> dict[str, Any]:
    """Write what the checkpoint lacks, and the decoding rules that every runtime follows; says what was done."""
    from pocket_opt.models import layout
    from pocket_opt.models.whisper.generation import complete_generation_config
    from pocket_opt.models.whisper.processor_files import feature_extractor_config
    from pocket_opt.models.whisper.tokenizer_file import tokenizer_table
    from pocket_opt.models.whisper.vocabulary import read_vocabulary

    tokenizer = tokenizer_table(workdir)
    vocabulary = read_vocabulary(tokenizer, dims.window_s, where=layout.TOKENIZER)
    rules = workdir / layout.GENERATION_CONFIG
    given = layout.read_table(rules) if rules.is_file() else {}
    config = layout.read_table(workdir / layout.CONFIG)
    complete, reset = complete_generation_config(given, config, vocabulary, dims)
    tables = {
        layout.TOKENIZER: tokenizer,
        layout.GENERATION_CONFIG: complete,
        layout.FEATURE_EXTRACTOR: feature_extractor_config(dims),
    }
    missing = [name for name in tables if not (workdir / name).is_file()]
    changed = [] if given == complete else [layout.GENERATION_CONFIG]
    for name in {*missing, *changed}:
        (workdir / name).unlink(missing_ok=True)  # it may be a link to the original
        (workdir / name).write_text(
            json.dumps(tables[name], indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
    added = sorted(key for key in complete if given.get(key) is None)
    return {"derived": missing, "generation_added": added, "generation_reset": reset}


PASS = LoadSource()
