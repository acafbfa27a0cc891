"""Devices that models are run on, by address: `adb:SERIAL` (Android) or `ssh:[USER@]HOST`.

`aihub:NAME` is a device that Qualcomm AI Hub hosts. No shell reaches it, so it is no `Device`: it runs jobs
(`evaluation/on_ai_hub.py`).
"""

from __future__ import annotations

import re

from pocket_opt.devices.adb import Adb
from pocket_opt.devices.base import Device
from pocket_opt.devices.ssh import Ssh
from pocket_opt.errors import UserError

KINDS: dict[str, type[Device]] = {"adb": Adb, "ssh": Ssh}
HOSTED = "aihub"
ADDRESSES = "adb:SERIAL (adb: for the only one attached), ssh:[USER@]HOST, aihub:NAME"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%-]*")
"""No name begins like an option of a program, or holds what a shell would read."""


def check_address(address: str, *, where: str = "device") -> None:
    """Raise UserError unless `address` can be one of a device; nothing is reached."""
    if hosted_name(address):
        return
    kind, colon, name = address.partition(":")
    known = bool(colon) and kind in KINDS
    if not known or not (_NAME.fullmatch(name) or (kind == "adb" and not name)):
        raise UserError(
            f"'{address}' is no address of a device",
            where=where,
            allowed=ADDRESSES,
            fix="write how the device is reached, e.g. adb:emulator-5554 or ssh:pi@raspberrypi",
        )


def hosted_name(address: str | None) -> str:
    """The name of the hosted device at `address`; empty where it is another one, or none."""
    kind, _, name = (address or "").partition(":")
    return name.strip() if kind == HOSTED and name.isprintable() else ""


def open_device(address: str) -> Device:
    """The device at `address`, which must be reachable.

    Raises:
        UserError: the address is none, the program that reaches it is missing, or it does not answer.
    """
    check_address(address)
    kind, _, name = address.partition(":")
    return KINDS[kind](name)
