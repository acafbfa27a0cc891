"""What the NPU cannot take is named before any work, with node and remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from compiled_whisper import one_node, planted, static
from exported_whisper import exported

from pocket_opt.artifact import Artifact, Component
from pocket_opt.errors import PocketOptError
from pocket_opt.qnn.fitness import misfits, require_fitness


def single(path: Path) -> Artifact:
    return Artifact(path.parent, {"graph": Component("onnx", (path.name,))})


def test_static_graphs_fit() -> None:
    require_fitness(static(), ("encoder", "prefill", "decoder"))


def test_an_operator_that_it_lacks_is_named_with_node_and_remedy(tmp_path: Path) -> None:
    model = planted(tmp_path, "Cosh", "Det")
    with pytest.raises(PocketOptError, match="it has no operator Cosh") as caught:
        require_fitness(model, ("encoder", "decoder"))
    assert caught.value.where == "node planted/Cosh (Cosh), and 1 more"
    assert "allow_fallback=true" in caught.value.fix
    require_fitness(model, ("encoder", "decoder"), allow_fallback=True)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_dimension_left_open_is_named_whoever_computes(allowed: bool) -> None:
    with pytest.raises(PocketOptError, match="graph 'decoder': a dimension is not fixed") as caught:
        require_fitness(exported(), ("decoder",), allow_fallback=allowed)
    assert caught.value.where.startswith("port tokens")
    assert "decoder=static" in caught.value.fix


def test_too_many_dimensions_and_foreign_numbers(tmp_path: Path) -> None:
    path = one_node(tmp_path / "six.onnx", "Relu", [1, 1, 1, 1, 2, 2])
    with pytest.raises(PocketOptError, match="x has 6 dimensions"):
        require_fitness(single(path), ("graph",))
    model = ir.load(one_node(tmp_path / "double.onnx", "Relu", [2]))
    model.graph.inputs[0].dtype = ir.DataType.DOUBLE
    assert [kind for kind, _, _ in misfits(model.graph)] == ["type"]


def test_an_operator_of_a_foreign_domain_is_none_of_its_own() -> None:
    x = ir.val("x", ir.DataType.FLOAT, (2,))
    node = ir.node("Gelu", [x], domain="com.microsoft", name="n")
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 20}, name="g")
    node.outputs[0].shape = ir.Shape((2,))
    assert [what for _, _, what in misfits(graph)] == ["it has no operator com.microsoft.Gelu"]
    assert np.size(node.outputs) == 1
