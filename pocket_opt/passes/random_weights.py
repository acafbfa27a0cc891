"""Make a Whisper of any real size with random weights, for speed, size and parity without a download.

Applies where a model cannot or need not be had; an error rate measured on it would mean nothing, so the artifact says
`weights: random`. Weights are scaled so that decoding is not degenerate. Costs 4 bytes a parameter on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.whisper.checkpoint import WhisperDims


@dataclass(frozen=True)
class RandomWeightsParams:
    """The architecture; what is not given is as in the published models.

    Attributes:
        heads: attention heads of encoder and decoder.
        vocab: tokens; 51,864 makes an English-only model, 51,866 adds the hundredth language.
        ffn_dim: width of the feed-forward layers; 0 means four times `d_model`.
        source_positions: encoder frames of 20 ms in a window (1,500 for 30 s).
        target_positions: the longest text in tokens, prompt included.
    """

    d_model: int = positive()
    encoder_layers: int = positive()
    decoder_layers: int = positive()
    heads: int = positive()
    mels: int = positive(80)
    vocab: int = positive(51_865)
    ffn_dim: int = 0
    source_positions: int = positive(1_500)
    target_positions: int = positive(448)
    seed: int = 0


class RandomWeights(Pass[RandomWeightsParams]):
    """Writes weights, configuration, tokenizer and feature extractor in the Hugging Face layout."""

    version = 1
    Params = RandomWeightsParams
    tools = ("numpy", "tokenizers")
    inputs = ()

    def check(self, params: RandomWeightsParams) -> None:
        """Heads share the width."""
        if params.d_model % (2 * params.heads):
            raise UserError(
                f"d_model {params.d_model} cannot be divided among {params.heads} heads of even width",
                where="architecture",
                allowed="d_model a multiple of 2 * heads",
            )

    def requires(self, inputs: Inputs, params: RandomWeightsParams) -> None:  # noqa: ARG002
        """The vocabulary has room for Whisper's special tokens."""
        from pocket_opt.models.whisper.vocabulary import Vocabulary

        Vocabulary.of_size(params.vocab, _dims(params).window_s)

    def run(
        self,
        inputs: Inputs,  # noqa: ARG002
        params: RandomWeightsParams,
        workdir: Path,
        progress: Progress = silent,  # noqa: ARG002
    ) -> Outcome:
        """Write the checkpoint, one tensor in memory at a time."""
        from pocket_opt.models.whisper.random_checkpoint import write_random_checkpoint
        from pocket_opt.models.whisper.source import source_artifact
        from pocket_opt.models.whisper.vocabulary import Vocabulary

        dims = _dims(params)
        write_random_checkpoint(
            workdir, dims, Vocabulary.of_size(params.vocab, dims.window_s), seed=params.seed
        )
        artifact = source_artifact(workdir, dims, weights="random")
        return Outcome(artifact, {"bytes": artifact.size("model"), "seed": params.seed})

    def ensures(self, inputs: Inputs, params: RandomWeightsParams, outcome: Outcome) -> None:  # noqa: ARG002
        """The checkpoint is a complete Whisper of the dimensions asked for."""
        from pocket_opt.models.whisper.checkpoint import open_checkpoint

        found = open_checkpoint(outcome.artifact.root).dims
        if found != _dims(params):
            raise PocketOptError(f"the checkpoint has other dimensions: {found}", allowed=f"{_dims(params)}")


def _dims(params: RandomWeightsParams) -> WhisperDims:
    from pocket_opt.models.whisper.checkpoint import WhisperDims

    hidden = params.ffn_dim or 4 * params.d_model
    return WhisperDims(
        d_model=params.d_model,
        encoder_layers=params.encoder_layers,
        decoder_layers=params.decoder_layers,
        encoder_heads=params.heads,
        decoder_heads=params.heads,
        encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden,
        mels=params.mels,
        vocab=params.vocab,
        source_positions=params.source_positions,
        target_positions=params.target_positions,
    )


PASS = RandomWeights()
