"""AutoRound: learns which way to round each weight of the PyTorch model, layer by layer, by the sign of its gradient.

Applies to the source model, before the export, like `torch_gptq`. Costs the most of the three: `iterations` steps of
training a layer. Clips are told apart by number and their tokens are brought to one length, because the tool trains on
batches of equal shape. Source: Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent", arXiv 2309.05516,
through neural-compressor 3.10 and auto-round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.torch_rounding import (
    RoundingParams,
    check_compressor,
    require_source,
    round_layers,
)
from pocket_opt.worker import silent

if TYPE_CHECKING:
    from pocket_opt.models.whisper.layer_stacks import LayerStack


@dataclass(frozen=True)
class TorchAutoroundParams(RoundingParams):
    """See RoundingParams.

    Attributes:
        iterations: steps of signed gradient descent a layer; the paper takes 200.
    """

    iterations: int = positive(200)


class TorchAutoround(Pass[TorchAutoroundParams]):
    """Rounds encoder and decoder layers by AutoRound."""

    version = 1
    Params = TorchAutoroundParams
    tools = ("neural_compressor", "auto_round", "torch", "transformers")

    def check(self, params: TorchAutoroundParams) -> None:  # noqa: ARG002
        """neural-compressor and auto-round are installed."""
        check_compressor(("auto_round",))

    def calibrates(self, params: TorchAutoroundParams) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def requires(self, inputs: Inputs, params: TorchAutoroundParams) -> None:
        """The model is a PyTorch Whisper, and blocks fit its layers."""
        require_source(inputs["model"], params)

    def run(
        self, inputs: Inputs, params: TorchAutoroundParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Round the stacks; write a checkpoint."""

        def rounding(stack: LayerStack) -> LayerStack:
            from neural_compressor.torch.quantization import AutoRoundConfig, convert, prepare

            even = stack.of_one_length()
            config = AutoRoundConfig(
                bits=params.bits,
                group_size=params.block_size,
                use_sym=params.symmetric,
                iters=params.iterations,
                nsamples=len(even),
                seqlen=even.ticket(0).shape[1],
                batch_size=1,
                device_map="cpu",
                amp=False,
                export_format="fake",
                reloading=False,
                output_dir="rounded",
            )
            prepared = prepare(even, config)
            for clip in range(len(even)):
                prepared(even.ticket(clip))
            return stack.with_layers(convert(prepared).layers)

        return round_layers(inputs["model"], params, workdir, rounding, progress)


PASS = TorchAutoround()
