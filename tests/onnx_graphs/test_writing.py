from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from graph_sessions import exported

from pocket_opt.artifact import Port
from pocket_opt.models.whisper.graph_builder import GraphBuilder
from pocket_opt.onnx_graphs.writing import count_operators, initializer_bytes, ports, save_model

TABLE = np.arange(40_000, dtype=np.float32).reshape(200, 200)


def model() -> ir.Model:
    """x @ TABLE, with a weight long enough for three-byte lengths."""
    graph = GraphBuilder("g")
    x = graph.input("x", ir.DataType.FLOAT, ("batch", 200))
    lazy = ir.LazyTensor(lambda: ir.tensor(TABLE), ir.DataType.FLOAT, ir.Shape(TABLE.shape))
    with graph.scope("fc"):
        y = graph.op("MatMul", x, graph.weight("table", lazy))
    graph.output(y, "y", ("batch", 200))
    return graph.build()


@pytest.mark.parametrize(("external_over", "files"), [(10**9, 1), (1_000, 2)])
def test_a_saved_model_runs(tmp_path: Path, external_over: int, files: int) -> None:
    names = save_model(model(), tmp_path / "m.onnx", external_over=external_over)
    assert names == ("m.onnx", "m.onnx.data")[:files]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    x = np.eye(2, 200, dtype=np.float32)
    found = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})[0]
    assert np.array_equal(found, TABLE[:2])


def test_the_streamed_file_is_what_the_onnx_package_reads_and_writes(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert len(proto.SerializeToString()) == (tmp_path / "m.onnx").stat().st_size
    assert [tensor.name for tensor in proto.graph.initializer] == ["table"]
    assert proto.opset_import[0].version == 20


def test_a_tensor_of_another_size_than_stated_is_an_error(tmp_path: Path) -> None:
    broken = model()
    wrong = ir.LazyTensor(
        lambda: ir.tensor(TABLE[:1]), ir.DataType.FLOAT, ir.Shape(TABLE.shape), name="table"
    )
    broken.graph.initializers["table"].const_value = wrong
    with pytest.raises(ValueError, match="800 bytes, not 160000"):
        save_model(broken, tmp_path / "m.onnx")


def test_description_of_a_model() -> None:
    assert initializer_bytes(model()) == TABLE.nbytes
    assert count_operators(model().graph) == {"MatMul": 1}
    inputs, outputs = ports(model())
    assert inputs == (Port("x", "float32", ("batch", 200)),)
    assert outputs == (Port("y", "float32", ("batch", 200)),)


def test_a_port_without_a_shape_is_an_error() -> None:
    incomplete = model()
    incomplete.graph.outputs[0].shape = None
    with pytest.raises(ValueError, match="'y' has no type or shape"):
        ports(incomplete)


def test_an_exported_graph_survives_loading_and_saving(tmp_path: Path) -> None:
    path = exported().path("encoder")
    save_model(ir.load(path), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
