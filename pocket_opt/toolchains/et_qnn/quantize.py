"""Puts captured methods on the grids that calibration clips ask for; runs in the toolchain's environment, stand-alone.

The loop that fills the decoder's caches meanwhile is that of the runner that every bundle carries.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

LAYERS = ("linear", "conv1d", "conv2d")
OF_LAYERS = {"8a8w_linear": ("8a8w", "16a8w")}
"""Precision -> bits of activations and weights of LAYERS and of all else; other precisions name those of everything.
Bits as QnnQuantizer names them."""

COMPARED_CLIPS = 4

MASK = "cache_mask"
DEEPEST, DEEPEST_OF = -64.0, {"8a8w": -20.0}
"""Of a mask while ranges are observed: it is added to scores, so what it is takes part in their range. Masks that are
deeper in use saturate, and e^-64 is nothing beside the scores of any row that is heard. On a grid of 256 values -64
would leave steps of 0.3 to scores, and what is below e^-6 of the largest one has no weight at all."""

Progress = Callable[[int, int, str], None]


def quantized(
    floats: Mapping[str, Any], payload: Mapping[str, Any], chip: Any, progress: Progress
) -> dict[str, Any]:
    """The methods `floats`, which the NPU computes, on the grids that the calibration clips ask for.

    Args:
        payload: see `lower`.
        chip: as ExecuTorch names it.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    with torch.no_grad():
        observed = {
            name: prepare_pt2e(program.module(), _quantizer(payload, chip))
            for name, program in floats.items()
        }
        deepest = DEEPEST_OF.get(payload["precision"], DEEPEST)
        backend = _backend(observed, payload, deepest)
        for done, clip in enumerate(payload["heard"], start=1):
            _say_again(backend, clip)
            progress(done, len(payload["heard"]), "clips observed")
        return {
            name: torch.export.export(convert_pt2e(graph), floats[name].example_inputs[0], strict=True)
            for name, graph in observed.items()
        }


def compare(
    floats: Mapping[str, Any], quantized: Mapping[str, Any], payload: Mapping[str, Any]
) -> dict[str, float]:
    """How near quantized methods are to the float ones: each with its own encoder and caches, fed the same tokens."""
    exact, rounded = (
        _backend({name: program.module() for name, program in programs.items()}, payload)
        for programs in (floats, quantized)
    )
    pairs = [
        (_say_again(exact, clip), _say_again(rounded, clip)) for clip in payload["heard"][:COMPARED_CLIPS]
    ]
    did: dict[str, float] = {}
    for place, what in enumerate(("encoder", "logits")):
        old, new = (
            np.concatenate([one[side][place].reshape(-1, one[side][place].shape[-1]) for one in pairs])
            for side in (0, 1)
        )
        noise = max(float(np.linalg.norm(old - new)), 1e-30)
        did[f"{what}_db"] = round(20 * float(np.log10(max(float(np.linalg.norm(old)), 1e-30) / noise)), 1)
    return did | {"same_choice_percent": round(100 * float((old.argmax(-1) == new.argmax(-1)).mean()), 2)}


def _quantizer(payload: Mapping[str, Any], chip: Any) -> Any:
    from executorch.backends.qualcomm.quantizer.quantizer import ModuleQConfig, QnnQuantizer, QuantDtype
    from executorch.backends.qualcomm.serialization.qc_schema import QnnExecuTorchBackendType
    from torchao.quantization.pt2e import MinMaxObserver

    def settings(bits: str) -> Any:
        return ModuleQConfig(
            QuantDtype[f"use_{bits}"],
            is_linear_per_channel=True,
            is_conv_per_channel=True,
            act_observer=MinMaxObserver,
        )

    precision = payload["precision"]
    quantizer = QnnQuantizer(QnnExecuTorchBackendType.kHtpBackend, chip)
    if precision in OF_LAYERS:
        layers, precision = OF_LAYERS[precision]
        kinds = [getattr(torch.ops.aten, name).default for name in LAYERS]
        quantizer.set_submodule_qconfig_list([(lambda node: node.target in kinds, settings(layers))])
    quantizer.default_quant_config = settings(precision)
    return quantizer


def _backend(graphs: Mapping[str, Any], payload: Mapping[str, Any], deepest: float = -math.inf) -> Any:
    """Graphs of methods, called as the runner calls a model's; masks no deeper than `deepest`."""
    if payload["runner"] not in sys.path:
        sys.path.insert(0, payload["runner"])
    from runner.method_backend import MethodSession  # type: ignore[import-not-found]
    from runner.static_backend import StaticBackend  # type: ignore[import-not-found]

    def session(name: str) -> Any:
        ports = payload["ports"][name]
        return MethodSession(name, _call(graphs[name], ports, deepest), ports)

    return StaticBackend({name: session(name) for name in graphs})


def _call(graph: Any, ports: Mapping[str, Any], deepest: float) -> Callable[[Sequence[Any]], Sequence[Any]]:
    names = [port["name"] for port in ports["inputs"]]

    def call(inputs: Sequence[Any]) -> Sequence[Any]:
        given = [x.clamp(min=deepest) if name == MASK else x for name, x in zip(names, inputs, strict=True)]
        with torch.no_grad():
            found = graph(*given)
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)

    return call


def _say_again(backend: Any, file: str) -> tuple[Any, Any]:
    """Let a model hear a clip and say its tokens: the prompt at once, then token by token, as in use.

    Returns:
        The encoder's output `[1, positions, d_model]` and the logits `[1, tokens, vocab]`.
    """
    with np.load(file) as clip:
        tokens, prompt = clip["tokens"], int(clip["prompt"])
        state = backend.encode(clip["features"])
    hidden = backend.encoder_hidden(state)
    found, state = backend.decode(tokens[:, :prompt], state)
    logits = [found]
    for place in range(prompt, tokens.shape[1]):
        found, state = backend.decode(tokens[:, place : place + 1], state)
        logits.append(found)
    return hidden, np.concatenate(logits, axis=1)
