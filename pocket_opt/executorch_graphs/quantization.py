"""Linear layers with fewer bits, in the ways that XNNPACK has kernels for.

16-bit weights are computed in 16 bits: XNNPACK has no kernel for them with 32-bit activations. 8 bits come from PT2E
(torchao) with XNNPACK's own quantizer: weights per output channel. 4 bits come from torchao's module rewrite: weights
in groups along the inputs. Activations of both are quantized as they come: with fixed scales (`is_dynamic=False`)
the quantizer also takes masked scores, whose range leaves nothing of them. Norms and attention stay in 32 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pocket_opt.executorch_graphs.lowering import capture, quiet
from pocket_opt.executorch_graphs.methods import Method


def quantize_8_bits(method: Method) -> Any:
    """`torch.export` of a method with 8-bit linear layers."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    quantizer = XNNPACKQuantizer().set_module_type(nn.Linear, settings)
    examples = method.examples()
    with quiet(), torch.no_grad():
        observed = prepare_pt2e(capture(method).module(), quantizer)
        observed(*examples)
        return torch.export.export(convert_pt2e(observed), examples)


def quantize_4_bits(module: nn.Module, group_size: int) -> None:
    """Give the linear layers of a module 4-bit weights in groups, in place; activations are dynamic, in 8 bits.

    Layers whose inputs are no multiple of `group_size` get 8 bits, per output channel.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    def fits(part: nn.Module, _: str) -> bool:
        return isinstance(part, nn.Linear) and part.in_features % group_size == 0

    def does_not_fit(part: nn.Module, name: str) -> bool:
        return isinstance(part, nn.Linear) and not fits(part, name)

    with quiet():
        grouped = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=PerGroup(group_size)
        )
        whole = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
        quantize_(module, whole, does_not_fit)
        quantize_(module, grouped, fits)


class HalfLinear(nn.Module):
    """A linear layer in 16 bits between layers in 32."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.half()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`, both in 32 bits."""
        return self.layer(x.half()).float()


def compute_in_16_bits(module: nn.Module) -> None:
    """Give all linear layers of a module 16-bit weights, in place."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Linear):
            setattr(module, name, HalfLinear(part))
        else:
            compute_in_16_bits(part)
