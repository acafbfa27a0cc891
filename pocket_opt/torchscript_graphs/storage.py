"""Linear layers and embedding with fewer bits in the file, in the ways that PyTorch's lite interpreter reads.

16 bits are stored, not computed: a layer says itself how it is saved and loaded, so its weights are widened once. 8
bits are dynamic (`quantized::linear_dynamic`): weights per output channel, activations as they come; the engine that
multiplies them (x86 here, QNNPACK on ARM) is chosen where the file is loaded. TorchScript has no product with 4 bits.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pocket_opt.torchscript_graphs.program import quiet


class StoredHalf(nn.Module):
    """A linear layer in 32 bits whose weights are rounded to 16 and saved so; biases stay. Made to be scripted."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight.detach().half().float()
        bias = None if layer.bias is None else layer.bias.detach()
        self.bias = torch.jit.Attribute(bias, Optional[Tensor])  # noqa: UP045  (TorchScript knows no other form here)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        return linear(x, self.weight, self.bias)

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, Tensor | None, bool]:
        return self.weight.half(), self.bias, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, Tensor | None, bool]) -> None:
        self.weight = state[0].float()
        self.bias = state[1]
        self.training = state[2]


class HeadTable(nn.Module):
    """The embedding as rows of the output head, whatever bits that is stored in: one tensor serves both."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor) -> Tensor:
        """`[count]` to rows `[count, width]`."""
        return self.head.weight.index_select(0, tokens)


def linear_layers(module: nn.Module) -> int:
    """How many linear layers a module has."""
    return sum(isinstance(part, nn.Linear) for part in module.modules())


def store_in_16_bits(module: nn.Module) -> int:
    """Make every linear layer of a module one that is stored in 16 bits, in place; how many there were."""
    found = 0
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Linear):
            setattr(module, name, torch.jit.script(StoredHalf(part)))
            found += 1
        else:
            found += store_in_16_bits(part)
    return found


def quantize_8_bits(module: nn.Module) -> int:
    """Give all linear layers of a module 8-bit weights, in place; how many there were."""
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    found = linear_layers(module)
    with quiet():
        quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
    return found
