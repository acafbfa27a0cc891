"""GPTQ: rounds the PyTorch model's weights to 4 bits column by column, each error spread over the columns to come.

Applies to the source model, before the export: `nodes.gptq.pass=torch_gptq nodes.gptq.after=source`, with `weight_only`
of the same bits, block size and symmetry behind it, which then loses nothing. Calibrated on the clips of
data.calibration: the encoder hears them, the decoder reads what the model says of them. Costs minutes and one Hessian
a layer. The token embedding and the convolutions stay as they are. Source: Frantar et al., "GPTQ", arXiv 2210.17323, as
neural-compressor 3.10 implements it for a list of layers; encoder and decoder are handed to it one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket_opt.torch_rounding import RoundingParams, RoundingPass

if TYPE_CHECKING:
    from pocket_opt.models.whisper.layer_stacks import LayerStack


@dataclass(frozen=True)
class TorchGptqParams(RoundingParams):
    """See RoundingParams.

    Attributes:
        damping: share of the mean diagonal that is added to each Hessian; more for few or quiet clips.
        mse: choose each block's scale by its squared error instead of its range.
    """

    damping: float = 0.01
    mse: bool = False


class TorchGptq(RoundingPass[TorchGptqParams]):
    """Rounds encoder and decoder layers by GPTQ."""

    version = 1
    Params = TorchGptqParams

    def rounded(self, params: TorchGptqParams, stack: LayerStack) -> LayerStack:
        """Hear all clips, then round column by column."""
        from neural_compressor.torch.quantization import GPTQConfig, convert, prepare

        config = GPTQConfig(
            bits=params.bits,
            group_size=params.block_size,
            use_sym=params.symmetric,
            percdamp=params.damping,
            use_mse_search=params.mse,
            model_path=".",  # any directory: without one it asks the hub
        )
        prepared = prepare(stack, config)
        for clip in range(len(stack)):
            prepared(stack.ticket(clip))
        rounded: LayerStack = convert(prepared)
        return rounded


PASS = TorchGptq()
