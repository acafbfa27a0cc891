"""What a rewritten ONNX component must still satisfy: valid structure, the same ports, finite weights, like answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.errors import PocketOptError
from pocket_opt.onnx_graphs.files import Array, load, parameters, sqnr_db
from pocket_opt.onnx_graphs.inputs import random_inputs, sizes_of
from pocket_opt.onnx_graphs.static_values import CACHES

COMPARE_BELOW = 700_000_000
"""Bytes of a component's input files up to which both versions are run and compared; above, only loaded."""


def check_rewrite(before: Artifact, after: Artifact, components: Sequence[str], *, least_db: float) -> None:
    """Check the rewritten `components` of `after` against those of `before`.

    Raises:
        PocketOptError: structure, ports, a weight or an output is not right, or the SQNR of an output is below
            `least_db` on random inputs (only loaded, not run, where a component is larger than `COMPARE_BELOW`).
    """
    for name in components:
        check_structure(after.path(name), name)
        check_ports(before.components[name], after.components[name], name)
        check_finite(after.path(name), name)
        if before.size(name) > COMPARE_BELOW:
            open_session(after, name)
            continue
        level = agreement_db(before, after, name)
        if not level >= least_db:
            raise PocketOptError(
                f"component '{name}' no longer agrees with its input: SQNR {level:.1f} dB on random inputs",
                allowed=f"at least {least_db:.0f} dB",
                fix="report this with the model's shapes: the rewrite is wrong, not only inexact",
            )


def check_structure(path: Path, name: str) -> None:
    """Raise PocketOptError where the ONNX checker refuses the file."""
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise PocketOptError(f"component '{name}' is not valid ONNX: {error}", where=path.name) from error


def check_ports(before: Component, after: Component, name: str) -> None:
    """Raise PocketOptError where a port has another name, type or shape than before."""
    for old, new in zip(
        (*before.inputs, *before.outputs, None), (*after.inputs, *after.outputs, None), strict=False
    ):
        if old != new:
            raise PocketOptError(f"the ports of component '{name}' changed", where=f"{new}", allowed=f"{old}")


def check_ports_but_caches(before: Component, after: Component, name: str) -> None:
    """Raise PocketOptError where a port changed, but for the type of a cache."""
    kinds = {port.name: port.dtype for port in (*before.inputs, *before.outputs)}

    def as_before(port: Port) -> Port:
        return replace(port, dtype=kinds[port.name]) if port.name.startswith(CACHES) else port

    inputs, outputs = (tuple(map(as_before, ports)) for ports in (after.inputs, after.outputs))
    check_ports(before, replace(after, inputs=inputs, outputs=outputs), name)


def check_finite(path: Path, name: str) -> None:
    """Raise PocketOptError naming the first floating-point weight that holds an infinity or a NaN."""
    for value, tensor in parameters(load(path).graph):
        if tensor.dtype.is_floating_point() and not np.isfinite(tensor.numpy()).all():
            raise PocketOptError(
                f"weight '{value.name}' of component '{name}' is not finite", where=path.name
            )


def agreement_db(before: Artifact, after: Artifact, name: str) -> float:
    """The lowest SQNR in dB over the floating-point outputs, both versions fed the same random inputs."""
    feeds = random_inputs(before.components[name], sizes=sizes_of(before))
    levels = [float("inf")]
    for old, new in zip(_outputs(before, name, feeds), _outputs(after, name, feeds), strict=True):
        if not np.isfinite(new).all() and np.isfinite(old).all():
            raise PocketOptError(f"an output of component '{name}' is no longer finite on random inputs")
        levels.append(sqnr_db(old, new))
    return min(levels)


def open_session(artifact: Artifact, name: str) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU with the settings that the artifact recommends.

    Raises:
        PocketOptError: the runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in artifact.metadata.get("session", {}).get("entries", {}).items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(artifact.path(name), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes share no base but this
        raise PocketOptError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load component '{name}': {error}",
            fix="leave the named node out with a pattern, or upgrade onnxruntime",
        ) from error


def _outputs(artifact: Artifact, name: str, feeds: dict[str, Array]) -> list[Array]:
    found = open_session(artifact, name).run(None, feeds)
    return [array for array in found if np.issubdtype(array.dtype, np.floating)]
