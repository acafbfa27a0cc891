"""Self-attention caches as states of the model: read, reordered by `beam_idx`, grown and kept without leaving it.

This is the form that OpenVINO's CPU plugin fuses with ScaledDotProductAttention into one kernel that grows its cache in
place. Source: OpenVINO documentation, "Stateful models and State API".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import Type
from openvino import opset13 as ops
from openvino._offline_transformations import apply_make_stateful_transformation

BEAMS = "beam_idx"
PAST, PRESENT = "past_", "present_"


def make_stateful(model: Any) -> int:
    """Turn `past_*` inputs and `present_*` outputs into states that start empty; returns how many.

    The model gets an input `beam_idx` int32 [batch]: row i goes on from row `beam_idx[i]` of the call before.
    """
    pasts = [node for node in model.get_parameters() if node.get_friendly_name().startswith(PAST)]
    if not pasts:
        return 0
    beams = ops.parameter([-1], Type.i32, name=BEAMS)
    beams.output(0).get_tensor().set_names({BEAMS})
    model.add_parameters([beams])
    for past in pasts:
        readers = list(past.output(0).get_target_inputs())
        chosen = ops.gather(past, beams, ops.constant(np.int64(0)))
        for reader in readers:
            if reader.get_node().get_type_name() != "ShapeOf":
                reader.replace_source_output(chosen.output(0))
    model.validate_nodes_and_infer_types()
    names = [past.get_friendly_name() for past in pasts]
    apply_make_stateful_transformation(model, {name: name.replace(PAST, PRESENT) for name in names})
    _start_empty(model)
    return len(pasts)


def _start_empty(model: Any) -> None:
    """Give every state a first value of no positions, with as many rows as there are tokens."""
    tokens = model.input("tokens")
    zero = ops.constant(np.int64(0))
    rows = ops.gather(ops.shape_of(tokens), ops.constant(np.array([0], np.int64)), zero)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, head_dim = node.output(0).get_partial_shape()
            rest = ops.constant(np.array([heads.get_length(), 0, head_dim.get_length()], np.int64))
            empty = ops.broadcast(ops.constant(np.float32(0)), ops.concat([rows, rest], 0))
            node.set_arguments([empty])
    model.validate_nodes_and_infer_types()
