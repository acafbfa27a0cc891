"""What a process is told of Qualcomm's libraries, and that nobody downloads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.qnn.libraries import libraries
from pocket_opt.toolchains.environments import Environment
from pocket_opt.toolchains.et_qnn.lower import LoweringRefused, lower


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    for name in ("onnxruntime_qnn/libQnnHtp.so", "onnxruntime_qnn.libs/libc++.so"):
        (site / name).parent.mkdir(parents=True)
        (site / name).write_text(name)
    return Environment(tmp_path / "env", tmp_path / "env" / "python", {})


def test_the_libraries_of_the_toolchain_are_linked_and_gone_afterwards(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    with libraries(environment) as env:
        root, paths = Path(env["QNN_SDK_ROOT"]), env["LD_LIBRARY_PATH"].split(os.pathsep)
        assert paths[0] == str(root / "lib" / "x86_64-linux-clang")
        assert (Path(paths[0]) / "libQnnHtp.so").read_text() == "onnxruntime_qnn/libQnnHtp.so"
        assert (Path(paths[1]) / "libc++.so").is_file()
        assert paths[2:] == ["/mine"]
    assert not root.exists()


def test_a_toolchain_that_lost_them_is_told_before_anything_starts(environment: Environment) -> None:
    next(environment.root.glob("lib/*/*/onnxruntime_qnn/*")).unlink()
    with (
        pytest.raises(PocketOptError, match=r"(?s)libQnnHtp.so is no longer in it.*toolchain remove et_qnn"),
        libraries(environment),
    ):
        pass


def test_the_users_own_sdk_comes_first(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with (
        pytest.raises(UserError, match=r"(?s)no lib/x86_64-linux-clang/libQnnHtp.so.*unset QNN_SDK_ROOT"),
        libraries(environment),
    ):
        pass
    room = tmp_path / "lib" / "x86_64-linux-clang"
    room.mkdir(parents=True)
    (room / "libQnnHtp.so").touch()
    with libraries(environment) as env:
        assert env["QNN_SDK_ROOT"] == str(tmp_path)
        assert env["LD_LIBRARY_PATH"].startswith(str(room))


@pytest.mark.parametrize("told", [None, "", "/nowhere/at/all"])
def test_without_libraries_nothing_is_lowered_and_nothing_downloaded(
    told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExecuTorch's own lowering begins with the download; it is not reached."""
    if told is None:
        monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    else:
        monkeypatch.setenv("QNN_SDK_ROOT", told)
    with pytest.raises(LoweringRefused, match="are not there") as caught:
        lower({}, lambda *_: None)
    assert "libQnnHtp.so" in caught.value.where
