"""Fixed positions (sines, then cosines, of geometrically spaced periods), computed at load instead of stored.

Vaswani et al. 2017, section 3.5, in the layout of openai/whisper. The runtime folds them into a constant when it loads
the graph, as it does with a widened table of 16 bits, so nothing is slower.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pocket_opt.onnx_graphs.files import FLOAT, add_initializer, new_node

LARGEST_ERROR = 4e-4
"""Between a stored table and the computed one: less than float16's step below 1 (4.9e-4). Published tables differ from
the formula by as much, because they were rounded to 16 bits, or their angles computed in 32."""
SLOWEST = math.log(10_000)


def is_sinusoidal(table: npt.NDArray[np.float32]) -> bool:
    """Whether `table` [positions, width] holds these positions."""
    if table.ndim != 2 or table.shape[1] % 2 or table.shape[1] < 4 or np.abs(table).max() > 1.001:
        return False
    return bool(np.abs(sinusoids(*table.shape) - table).max() <= LARGEST_ERROR)


def sinusoids(length: int, width: int) -> npt.NDArray[np.float32]:
    """The table [length, width]."""
    rates = np.exp(-SLOWEST / (width // 2 - 1) * np.arange(width // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def computed(graph: ir.Graph, name: str, shape: tuple[int, int]) -> list[ir.Node]:
    """Nodes that compute the table of `shape`; the last one's output is it. Angles are in double precision."""
    length, width = shape

    def double(what: str, number: float) -> ir.Value:
        return add_initializer(graph, f"{name}.{what}", np.array(number, np.float64))

    zero, one = double("zero", 0), double("one", 1)
    places = new_node(name, "Range", [zero, double("count", length), one], suffix="_positions")
    column = add_initializer(graph, f"{name}.column", np.array([-1, 1]))
    positions = new_node(name, "Reshape", [places.outputs[0], column])
    exponents = new_node(name, "Range", [zero, double("half", width // 2), one], suffix="_rates")
    step = double("step", -SLOWEST / (width // 2 - 1))
    logarithms = new_node(name, "Mul", [exponents.outputs[0], step], suffix="_rates")
    rates = new_node(name, "Exp", logarithms.outputs, suffix="_rates")
    angles = new_node(name, "Mul", [positions.outputs[0], rates.outputs[0]], suffix="_angles")
    waves = [new_node(name, kind, angles.outputs) for kind in ("Sin", "Cos")]
    both = new_node(name, "Concat", [wave.outputs[0] for wave in waves], {"axis": 1})
    table = new_node(name, "Cast", both.outputs, {"to": FLOAT})
    table.outputs[0].dtype, table.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(shape)
    return [places, positions, exponents, logarithms, rates, angles, *waves, both, table]
