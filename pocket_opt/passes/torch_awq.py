"""AWQ: scales up the weights that meet loud activations before rounding the PyTorch model's layers to 4 bits.

Applies to the source model, before the export, like `torch_gptq`. The scales are folded into the layer norm before
queries, keys, values and fc1, and into the values before out_proj, so the model computes the same and no operator is
added; fc2 stands behind a GELU, which passes no scale, and keys and values of cross-attention share their input with
other layers: these are rounded to nearest. Source: Lin et al., "AWQ", arXiv 2306.00978, as neural-compressor 3.10
implements it; its search for clipping ranges is left out, for it compares scaled weights with unscaled inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.torch_rounding import RoundingParams, RoundingPass

if TYPE_CHECKING:
    from pocket_opt.models.whisper.layer_stacks import LayerStack

FOLDS = {
    "self_attn_layer_norm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.v_proj": ("self_attn.out_proj",),
    "final_layer_norm": ("fc1",),
}
CROSS_FOLDS = {
    "encoder_attn_layer_norm": ("encoder_attn.q_proj",),
    "encoder_attn.v_proj": ("encoder_attn.out_proj",),
}
"""Module that takes the inverse of a scale -> the layers whose inputs are scaled."""


class TorchAwq(RoundingPass[RoundingParams]):
    """Scales and rounds encoder and decoder layers by AWQ."""

    version = 1
    Params = RoundingParams

    def rounded(self, params: RoundingParams, stack: LayerStack) -> LayerStack:
        """Search the scales on all clips, then round."""
        import torch
        from neural_compressor.torch.quantization import AWQConfig, convert, prepare

        config = AWQConfig(
            bits=params.bits,
            group_size=params.block_size,
            use_sym=params.symmetric,
            use_auto_clip=False,
            absorb_layer_dict=FOLDS | (CROSS_FOLDS if stack.hears else {}),
        )
        with torch.no_grad():
            prepared = prepare(stack, config, example_inputs=stack.ticket(0))
            for clip in range(len(stack)):
                prepared(stack.ticket(clip))
            rounded: LayerStack = convert(prepared)
        return rounded


PASS = TorchAwq()
