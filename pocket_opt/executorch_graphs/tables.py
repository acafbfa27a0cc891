"""The token embedding as tables that a lookup reads a row of: no delegate has a lookup, so portable kernels do it.

Rows are widened after the lookup, so what is stored can be small. The output head has its own copy of these weights
inside the delegate, in the delegate's packed form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = -8, 7
"""What 4 bits hold."""


class FloatTable(nn.Module):
    """Rows in 32 or 16 bits."""

    def __init__(self, weight: Tensor, *, half: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", weight.half() if half else weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[count]` to rows `[count, width]`."""
        return self.weight.index_select(0, tokens).float()


class ByteTable(nn.Module):
    """Rows in 8 bits with a scale each."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", torch.round(weight / scale).to(torch.int8))

    def forward(self, tokens: Tensor) -> Tensor:
        """`[count]` to rows `[count, width]`."""
        return self.weight.index_select(0, tokens).float() * self.scale.index_select(0, tokens)
