"""AutoRound: learns which way to round each weight of the PyTorch model, layer by layer, by the sign of its gradient.

Applies to the source model, before the export, like `torch_gptq`. Costs the most of the three: `iterations` steps of
training a layer. Clips are told apart by number and their tokens are brought to one length, because the tool trains on
batches of equal shape. Source: Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent", arXiv 2309.05516,
through neural-compressor 3.10 and auto-round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket_opt.passes.base import positive
from pocket_opt.torch_rounding import RoundingParams, RoundingPass

if TYPE_CHECKING:
    from pocket_opt.models.whisper.layer_stacks import LayerStack


@dataclass(frozen=True)
class TorchAutoroundParams(RoundingParams):
    """See RoundingParams.

    Attributes:
        iterations: steps of signed gradient descent a layer; the paper takes 200.
    """

    iterations: int = positive(200)


class TorchAutoround(RoundingPass[TorchAutoroundParams]):
    """Rounds encoder and decoder layers by AutoRound."""

    version = 1
    Params = TorchAutoroundParams
    tools = ("neural_compressor", "auto_round", "torch", "transformers")
    needs = ("auto_round",)

    def rounded(self, params: TorchAutoroundParams, stack: LayerStack) -> LayerStack:
        """Train the rounding on clips of one length."""
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


PASS = TorchAutoround()
