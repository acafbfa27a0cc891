"""Where Qualcomm's SDK is looked for, and what is said of a folder that is none."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest
from fake_sdk import HOST, sdk

from pocket_opt.errors import PocketOptError, UserError
from pocket_opt.qnn.sdk import find_sdk

__all__ = ["sdk"]
CONVERTER = "qairt-converter"


def test_the_version_holds_the_build(sdk: Path) -> None:
    found = find_sdk([CONVERTER])
    assert found.version == "2.39.0.250926"
    assert Path(found.library("libQnnHtp.so")).is_file()


def test_without_one_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with pytest.raises(UserError, match="QNN_SDK_ROOT names no SDK") as caught:
        find_sdk()
    assert "softwarecenter.qualcomm.com" in caught.value.fix
    assert "pass=compile_qnn" in caught.value.fix


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (".", "there is no such folder"),
        ("sdk.yaml", "it has no sdk.yaml"),
        (f"bin/{HOST}", "for other machines: aarch64-windows-msvc, x86_64-windows-msvc"),
        (f"bin/{HOST}/{CONVERTER}", f"it lacks bin/{HOST}/{CONVERTER}"),
        (f"lib/{HOST}/libQnnHtp.so", f"it lacks lib/{HOST}/libQnnHtp.so"),
    ],
)
def test_what_is_no_sdk_is_told_apart(damage: str, says: str, sdk: Path) -> None:
    for other in ("aarch64-windows-msvc", "x86_64-windows-msvc"):
        (sdk / "bin" / other).mkdir()
    place = sdk / damage
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(UserError) as caught:
        find_sdk([CONVERTER])
    assert says in caught.value.what
    assert caught.value.where.startswith("QNN_SDK_ROOT=")
    assert caught.value.fix


def test_a_program_that_may_not_run_is_told(sdk: Path) -> None:
    (sdk / "bin" / HOST / CONVERTER).chmod(0o644)
    with pytest.raises(UserError, match=f"{CONVERTER} may not be executed"):
        find_sdk([CONVERTER])


def test_other_machines_are_refused(sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UserError, match="this machine is Linux aarch64"):
        find_sdk()


def test_an_interpreter_that_is_not_there_is_told(sdk: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="cannot be started") as caught:
        find_sdk().run(CONVERTER, ["--help"], folder=tmp_path, makes=(), python="/no/python3.10", timeout_s=9)
    assert caught.value.where == "qairt-converter --help"
    assert "params.python" in caught.value.fix


def test_arguments_that_it_does_not_know_are_told_in_its_words(sdk: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketOptError, match="unrecognized arguments: --quantise") as caught:
        find_sdk().run(
            CONVERTER,
            ["-i", "a.onnx", "-o", "a.dlc", "--quantise"],
            folder=tmp_path,
            makes=["a.dlc"],
            python="",
            timeout_s=60,
        )
    assert "failed with exit status 2" in caught.value.what
