"""Linear layers with integer weights, in the ways that XNNPACK has kernels for.

8 bits come from PT2E (torchao) with XNNPACK's own quantizer: weights per output channel, activations with a scale of
each call and row (dynamic) or a fixed one that calibration found (static). 4 bits come from torchao's module rewrite:
weights in groups along the inputs, activations dynamic. Norms and attention stay in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pocket_opt.executorch_graphs.lowering import capture, quiet
from pocket_opt.executorch_graphs.methods import Method


def quantize_8_bits(method: Method, calibration: Iterable[tuple[Tensor, ...]] | None = None) -> Any:
    """`torch.export` of a method with 8-bit linear layers: dynamic, or static with `calibration` inputs."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    dynamic = calibration is None
    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    quantizer = XNNPACKQuantizer().set_module_type(nn.Linear, settings)
    examples = method.examples()
    with quiet(), torch.no_grad():
        observed = prepare_pt2e(capture(method).module(), quantizer)
        for inputs in [examples] if calibration is None else calibration:
            observed(*inputs)
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
