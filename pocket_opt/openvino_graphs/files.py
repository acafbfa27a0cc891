"""OpenVINO IR components on disk: open, save and describe them, with the same bytes for the same model."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from pocket_opt.artifact import Artifact, Component, Port
from pocket_opt.errors import PocketOptError

FORMAT = "openvino"
_DTYPES = {"f32": "float32", "f16": "float16", "i32": "int32", "i64": "int64"}
_COUNTED = re.compile(r"_\d+$")
"""What OpenVINO appends to a type to name a node: a count over the whole process."""


def read(path: Path) -> Any:
    """The model in an ONNX or IR file; PocketOptError where OpenVINO cannot read it."""
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:
        raise PocketOptError(
            f"OpenVINO {ov.__version__} cannot read the graph: {' '.join(str(error).split())[:300]}",
            where=path.name,
            fix="convert the unfused export: take passes for ONNX Runtime (fuse, dynamic_int8 ...) out of the chain",
        ) from error


def save(model: Any, workdir: Path, name: str) -> Component:
    """Write `name`.xml and `name`.bin."""
    number_names(model)
    path = workdir / f"{name}.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return Component(FORMAT, (path.name, f"{name}.bin"), *ports(model))


def number_names(model: Any) -> None:
    """Replace names that count nodes of the process: by the module that a node's result goes to, and its type.

    So a profile groups what the reader split up (layer norm) with its module. Constants are only numbered.
    """
    used: Counter[str] = Counter()
    for node in reversed(model.get_ordered_ops()):
        kind = node.get_type_name()
        if _COUNTED.sub("", node.get_friendly_name()) != kind:
            continue
        users = (
            []
            if kind == "Constant"
            else [port.get_node() for out in node.outputs() for port in out.get_target_inputs()]
        )
        module = min((user.get_friendly_name().rpartition("/")[0] for user in users), default="")
        name = f"{module}/{kind}" if module else kind
        node.set_friendly_name(f"{name}_{used[name]}")
        used[name] += 1


def ports(model: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The model's inputs and outputs; a dynamic dimension is "?"."""
    return tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs))


def _port(port: Any) -> Port:
    kind = port.get_element_type().get_type_name()
    shape = tuple("?" if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return Port(min(port.get_names()), _DTYPES.get(kind, kind), shape)


def require_ir(source: Artifact, components: tuple[str, ...]) -> None:
    """Raise PocketOptError unless all `components` (at least one) are OpenVINO models of `source`."""
    known = [name for name, part in source.components.items() if part.format == FORMAT]
    missing = [name for name in components if name not in known]
    if missing or not components:
        raise PocketOptError(
            f"the artifact has no OpenVINO component '{missing[0]}'" if missing else "no component is named",
            where="parameter components",
            allowed=", ".join(known) or "(none: run convert_openvino first)",
        )


def operators(model: Any) -> Counter[str]:
    """Nodes by type, constants left out."""
    return Counter(node.get_type_name() for node in model.get_ops() if node.get_type_name() != "Constant")


def constants(model: Any) -> Counter[str]:
    """Constants with more than one value, by element type ("f32", "i8" ...)."""
    return Counter(
        node.get_element_type().get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and np.prod(node.shape) > 1
    )
