"""Devices by adb and ssh: what is copied and run, and one clear error for each thing that goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_devices import device_root

from pocket_opt.devices import check_address, open_device
from pocket_opt.errors import PocketOptError, UserError

__all__ = ["device_root"]
BOTH = ("adb:R5CT", "ssh:anna@pi")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    (place / "runner").mkdir(parents=True)
    (place / "run.py").write_text("print('hello')")
    (place / "runner" / "audio.py").write_text("x = 1")
    return place


@pytest.mark.parametrize("address", [*BOTH, "adb:"])
def test_a_folder_is_copied_used_and_removed(address: str, folder: Path, device_root: Path) -> None:
    device = open_device(address)
    with device.placed(folder) as place:
        assert place.startswith(str(device_root))
        assert device.run(f"cat {place}/run.py {place}/runner/audio.py") == "print('hello')x = 1"
    assert not list(device_root.iterdir())


@pytest.mark.parametrize("address", BOTH)
def test_a_shell_may_greet_first(
    address: str, folder: Path, device_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", "greets")
    device = open_device(address)
    assert "Welcome" not in f"{device.identity()}"
    with device.placed(folder) as place:
        assert device.ask(f"cat {place}/run.py") == "print('hello')"
    assert not list(device_root.iterdir())


def test_what_a_computer_complains_of_at_length_holds_nothing_up(
    folder: Path, device_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", "complains")
    (folder / "encoder.onnx").write_bytes(bytes(4_000_000))
    with open_device("ssh:anna@pi").placed(folder) as place:
        assert (Path(place) / "encoder.onnx").stat().st_size == 4_000_000


def test_a_phone_says_what_it_is(device_root: Path) -> None:
    identity = open_device("adb:R5CT").identity()
    assert (identity.name, identity.build) == ("samsung SM-S931B (SM8750)", "samsung/pa1q/15/AP3A")


def test_a_computer_says_what_it_is(device_root: Path) -> None:
    identity = open_device("ssh:anna@pi").identity()
    assert identity.name
    assert identity.build.startswith("Linux")


@pytest.mark.parametrize(
    "address", ["pi", "usb:3", "ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "adb:$(reboot)", ""]
)
def test_what_is_no_address_is_refused_before_anything_is_reached(address: str) -> None:
    with pytest.raises(UserError) as caught:
        check_address(address)
    assert "adb:SERIAL" in caught.value.allowed


@pytest.mark.parametrize(
    ("address", "trouble", "says", "helps"),
    [
        ("adb:R5CT", "missing", "no device R5CT is attached", "USB debugging"),
        ("adb:R5CT", "unauthorized", "is unauthorized", "accept the question"),
        ("adb:R5CT", "offline", "is offline", "plug it in again"),
        ("adb:", "two", "which device is meant", "name it"),
        ("adb:", "missing", "no device is ready", "USB debugging"),
        ("ssh:anna@pi", "missing", "Could not resolve", "name of the host"),
        ("ssh:anna@pi", "refused", "Connection refused", "start the ssh server"),
        ("ssh:anna@pi", "denied", "Permission denied", "ssh-copy-id"),
        ("ssh:anna@pi", "stranger", "Host key verification", "connect once by hand"),
    ],
)
def test_a_device_that_cannot_be_reached_is_told_with_the_remedy(
    address: str, trouble: str, says: str, helps: str, device_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICE", trouble)
    with pytest.raises(UserError) as caught:
        open_device(address)
    assert says in caught.value.what
    assert helps in caught.value.fix


@pytest.mark.parametrize("address", BOTH)
@pytest.mark.parametrize(
    ("trouble", "says", "helps"),
    [
        ("full", "the device is full: 1 MB are free", "data.evaluation.limit"),
        ("fills", "No space left", "free some space"),
        ("broken", "roken pipe", "the connection broke"),
    ],
)
def test_what_breaks_while_copying_leaves_nothing_there(
    address: str,
    trouble: str,
    says: str,
    helps: str,
    folder: Path,
    device_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "encoder.onnx").write_bytes(bytes(4_000_000))
    monkeypatch.setenv("FAKE_DEVICE", trouble)
    device = open_device(address)
    with pytest.raises(PocketOptError) as caught, device.placed(folder):
        pytest.fail("it was not copied")
    assert says in caught.value.what
    assert helps in caught.value.fix
    assert not list(device_root.iterdir())


def test_a_command_that_takes_too_long_is_given_up(device_root: Path) -> None:
    with pytest.raises(PocketOptError, match=r"did not finish within 0\.2 s"):
        open_device("ssh:anna@pi").run("sleep 5", timeout_s=0.2)


@pytest.mark.parametrize("address", BOTH)
def test_without_the_program_it_is_said_how_to_get_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        open_device(address)
    assert "apt-get install" in caught.value.fix
