"""A program that another process runs: the same answers, and what is told when it fails.

The process is really another, started as the toolchain's is; its interpreter is this one, so the program is XNNPACK's.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.executorch_graphs.lowering import lower
from pocket_opt.runtimes import remote_program
from pocket_opt.runtimes.remote_program import RemoteProgram
from pocket_opt.toolchains import Toolchain
from pocket_opt.toolchains.environments import Environment
from pocket_opt.toolchains.et_qnn.serve import receive, send
from pocket_opt.worker import WorkerError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib" / "python3.11" / "site-packages" / "onnxruntime_qnn" / "libQnnHtp.so"
    library.parent.mkdir(parents=True)
    library.touch()
    environment = Environment(tmp_path, Path(sys.executable), {})
    monkeypatch.setattr(remote_program, "require", lambda _: environment)
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)


def test_arrays_arrive_as_they_were_sent() -> None:
    stream, arrays = io.BytesIO(), [np.arange(6, dtype=np.float32).reshape(2, 3).T, np.array([7])]
    send(stream, {"method": "encoder"}, arrays)
    told, found = receive(io.BytesIO(stream.getvalue()))
    assert told == {"method": "encoder"}
    assert all((old == new).all() and old.dtype == new.dtype for old, new in zip(arrays, found, strict=True))
    for missing in (0, 5, len(stream.getvalue()) - 1):
        with pytest.raises((EOFError, ValueError)):
            receive(io.BytesIO(stream.getvalue()[:missing]))


def test_the_answers_are_those_of_the_program_until_its_process_dies(tmp_path: Path) -> None:
    program, layer, x = opened(tmp_path)
    assert program.method_names == {"forward", "get_eos_id"}
    [found] = program.load_method("forward")([x])
    torch.testing.assert_close(found, layer(x).detach())
    os.kill(program._child.pid, signal.SIGKILL)
    for inputs in ([x], [torch.zeros(1_000_000)]):  # more than a pipe holds, too
        with pytest.raises(WorkerError, match=r"(?s)ended with SIGKILL.*model.pte.*more memory"):
            program.load_method("forward")(inputs)
    program.close()


def test_a_request_that_fails_is_nobodys_mistake_and_not_the_end(tmp_path: Path) -> None:
    program, layer, x = opened(tmp_path)
    for name, inputs, told in (
        ("encoder", [x], "it has forward"),
        ("forward", [], "method 'forward' failed"),
    ):
        with pytest.raises(PocketOptError, match=told) as caught:
            program.load_method(name)(inputs)
        assert not isinstance(caught.value, UserError)
        assert "build the model again" in caught.value.fix
    [found] = program.load_method("forward")([x])
    torch.testing.assert_close(found, layer(x).detach())


def test_a_damaged_program_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"nothing")
    with pytest.raises(PocketOptError, match="no ExecuTorch program, or a damaged one"):
        RemoteProgram(tmp_path / "model.pte")


def test_nobody_waits_for_a_process_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve.py").write_text("print('what?', flush=True)\nimport time\ntime.sleep(600)\n")
    monkeypatch.setattr(remote_program, "load_toolchain", lambda name: Toolchain(name, tmp_path, "", ()))
    monkeypatch.setattr(remote_program, "ENDS_WITHIN_S", 0.1)
    with pytest.raises(WorkerError, match="does not answer"):
        RemoteProgram(tmp_path / "model.pte")


def opened(tmp_path: Path) -> tuple[RemoteProgram, torch.nn.Linear, torch.Tensor]:
    layer = torch.nn.Linear(3, 2)
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    lower({"forward": torch.export.export(layer, (x,))}, {"get_eos_id": 7}, tmp_path / "model.pte")
    return RemoteProgram(tmp_path / "model.pte"), layer, x
