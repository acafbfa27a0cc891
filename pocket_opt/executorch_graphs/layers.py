"""The modules that encoder and decoder share, in the forms that XNNPACK takes whole.

Layer norm is two products with a constant row instead of a reduction, and attention is two batched products of rank 3:
of `nn.LayerNorm`, `scaled_dot_product_attention` and a product of rank 4 some operators are left to single-threaded
portable kernels, and cut the graph into pieces. At Whisper-tiny shapes on two threads the encoder takes 1,930 ms with
`scaled_dot_product_attention`, whose softmax looks for masked rows with five such operators, and 830 ms without.
Modules are named as in the state dict.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from pocket_opt.models.whisper.checkpoint import Checkpoint, FloatArray

EPSILON = 1e-5
"""Of every layer norm, as in `modeling_whisper` of transformers."""


def read(checkpoint: Checkpoint, name: str) -> Tensor:
    """State-dict tensor `name`, without its leading `model.`, as a float32 tensor of its own."""
    return torch.from_numpy(np.array(checkpoint.read(f"model.{name}")))


def read_linear(
    checkpoint: Checkpoint,
    name: str,
    *,
    bias: bool = True,
    scale: float = 1.0,
    change: Callable[[FloatArray], FloatArray] = np.array,
) -> nn.Linear:
    """`scale * (x @ W.T + b)`, the scale folded into both; `change` brings the stored weight to `[out, in]`."""
    weight = torch.from_numpy(np.ascontiguousarray(change(checkpoint.read(f"model.{name}.weight"))))
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias)
    layer.weight = nn.Parameter(weight * scale, requires_grad=False)
    if bias:
        layer.bias = nn.Parameter(read(checkpoint, f"{name}.bias") * scale, requires_grad=False)
    return layer


class LayerNorm(nn.Module):
    """Over the last of three axes; means are products with a row of 1 / width."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.register_buffer("weight", read(checkpoint, f"{name}.weight"))
        self.register_buffer("bias", read(checkpoint, f"{name}.bias"))
        width = checkpoint.dims.d_model
        self.register_buffer("average", torch.full((1, width), 1 / width))

    def forward(self, x: Tensor) -> Tensor:
        """`[1, length, d_model]` to the same."""
        centred = x - linear(x, self.average)
        variance = linear(centred * centred, self.average)
        return centred * torch.rsqrt(variance + EPSILON) * self.weight + self.bias


class FeedForward(nn.Module):
    """Norm, two products with GELU between them, and the residual."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        super().__init__()
        self.final_layer_norm = LayerNorm(checkpoint, f"{name}.final_layer_norm")
        self.fc1 = read_linear(checkpoint, f"{name}.fc1")
        self.fc2 = read_linear(checkpoint, f"{name}.fc2")

    def forward(self, x: Tensor) -> Tensor:
        """`[1, length, d_model]` to the same."""
        return x + self.fc2(gelu(self.fc1(self.final_layer_norm(x))))


class SelfAttention(nn.Module):
    """The four projections; queries come scaled. Heads are `[heads, length, head_dim]`."""

    def __init__(self, checkpoint: Checkpoint, name: str, heads: int) -> None:
        super().__init__()
        self.heads = heads
        scale = (checkpoint.dims.d_model // heads) ** -0.5
        self.q_proj = read_linear(checkpoint, f"{name}.q_proj", scale=scale)
        self.k_proj = read_linear(checkpoint, f"{name}.k_proj", bias=False)
        self.v_proj = read_linear(checkpoint, f"{name}.v_proj")
        self.out_proj = read_linear(checkpoint, f"{name}.out_proj")

    def split(self, x: Tensor) -> Tensor:
        """`[1, length, d_model]` to heads."""
        return split_heads(x, self.heads)

    def join(self, mixed: Tensor) -> Tensor:
        """Heads to `out_proj` of `[1, length, d_model]`."""
        return self.out_proj(join_heads(mixed))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`[1, length, d_model]` to `[heads, length, head_dim]`."""
    return x.view(x.shape[1], heads, -1).transpose(0, 1)


def join_heads(mixed: Tensor) -> Tensor:
    """`[heads, length, head_dim]` to `[1, length, d_model]`."""
    return mixed.transpose(0, 1).reshape(1, mixed.shape[1], -1)
