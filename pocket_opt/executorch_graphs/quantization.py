"""Linear layers with fewer bits, in the ways that XNNPACK has kernels for.

16-bit weights are computed in 16 bits: XNNPACK has no kernel for them with 32-bit activations. 8 bits come from PT2E
(torchao) with XNNPACK's own quantizer: weights per output channel, activations with a scale of each call and row
(dynamic) or a fixed one that calibration found (static). 4 bits come from torchao's module rewrite: weights in groups
along the inputs, activations dynamic. Norms and attention stay in 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pocket_opt.errors import PocketOptError
from pocket_opt.executorch_graphs.lowering import capture, quiet
from pocket_opt.executorch_graphs.methods import Method
from pocket_opt.models.whisper.runner.method_backend import MethodSession

if TYPE_CHECKING:
    from pocket_opt.passes.base import Progress
    from pocket_opt.runtimes.calibration import Calibration

OBSERVER = "activation_post_process"
"""How torchao names its observers."""


def observed(method: Method, *, dynamic: bool) -> Any:
    """The graph of a method with observers before its linear layers; it is called as the module is.

    Where activations are `dynamic`, one call tells it all, and it was made.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    class OfLinear(XNNPACKQuantizer):
        """Leaves all but linear layers alone: it would put masked scores (-60,000) on a grid, with steps of 235."""

        def annotate(self, model: Any) -> Any:
            annotated = super().annotate(model)
            for node in annotated.graph.nodes:
                if "linear" not in str(node.target):
                    node.meta.pop(Q_ANNOTATION_KEY, None)
            return annotated

    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    quantizer = OfLinear().set_module_type(nn.Linear, settings)
    with quiet(), torch.no_grad():
        graph = prepare_pt2e(capture(method).module(), quantizer)
        if dynamic:
            graph(*method.examples())
    return graph


def observe_alike(graph: Any, other: Any) -> None:
    """Let two observed graphs of one module have the same observers, so that they get the same grids.

    Raises:
        PocketOptError: their observers are not the same ones.
    """
    mine, others = _observers(graph), _observers(other)
    if list(mine) != list(others):
        raise PocketOptError(
            "two graphs of one module are observed at different places",
            where=", ".join(sorted(set(mine) ^ set(others))) or "their order",
            fix="report this with the versions of torch and torchao",
        )
    for name, observer in others.items():
        graph.set_submodule(name, observer)


def _observers(graph: Any) -> dict[str, nn.Module]:
    return {
        str(node.target): graph.get_submodule(node.target)
        for node in graph.graph.nodes
        if node.op == "call_module" and str(node.target).startswith(OBSERVER)
    }


def in_8_bits(graph: Any, method: Method) -> Any:
    """`torch.export` of a method with 8-bit linear layers, from its `observed` graph."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with quiet(), torch.no_grad():
        return torch.export.export(convert_pt2e(graph), method.examples())


def hear(
    graphs: Mapping[str, Any], methods: Mapping[str, Method], calibration: Calibration, progress: Progress
) -> None:
    """Let observed graphs, by the names of their methods, hear the clips and say their tokens."""

    def session(name: str) -> MethodSession:
        def call(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            with torch.no_grad():
                found = graphs[name](*inputs)
            return (found,) if isinstance(found, Tensor) else tuple(found)

        return MethodSession(name, call, methods[name].ports())

    calibration.say_again({name: session(name) for name in graphs}, progress)


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
