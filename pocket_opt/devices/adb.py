"""Android devices through `adb` of the platform tools. Source: Android documentation, "Android Debug Bridge (adb)"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pocket_opt.devices.base import QUICK_S, Device, Identity
from pocket_opt.errors import PocketOptError, UserError

READY = "device"
STATES = {
    "unauthorized": "unlock the phone and accept the question for this computer's key",
    "offline": "plug it in again, or run adb reconnect",
    "no permissions": "give your user the right to the USB device (udev rules), then adb kill-server",
}
"""What `adb devices` says of one that cannot be used, and what helps."""


class Adb(Device):
    """See Device; `name` is the serial, "" for the only one attached."""

    program = "adb"
    install = "install Android's platform tools (Debian: apt-get install adb) and put adb on the PATH"
    remedies: ClassVar[dict[str, str]] = {
        "no space left": "free some space below /data/local/tmp",
        "not found": "see adb devices; plug it in again",
        "unauthorized": STATES["unauthorized"],
        "offline": STATES["offline"],
        "closed": "plug it in again: the connection broke",
        "broken pipe": "plug it in again: the connection broke",
        "eof": "plug it in again: the connection broke",
    }

    def identity(self) -> Identity:
        """Model and chip, and the fingerprint of the system."""
        names = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.fingerprint")
        maker, model, chip, build = (self.ask(f"getprop {name}") for name in names)
        return Identity(
            " ".join(filter(None, (maker, model, chip and f"({chip})"))) or "Android device", build
        )

    def _reach(self) -> None:
        listed = self._listed()
        if (
            not self.name
            and len(ready := [serial for serial, state in listed.items() if state == READY]) == 1
        ):
            self.name = ready[0]
        state = listed.get(self.name)
        if state == READY:
            return
        attached = ", ".join(f"{serial} ({state})" for serial, state in listed.items()) or "(none)"
        if state is not None:
            why = f"the device {self.name} is {state}"
        elif self.name:
            why = f"no device {self.name} is attached"
        else:
            why = "it is not clear which device is meant" if len(listed) > 1 else "no device is ready"
        fixes = [fix for sign, fix in STATES.items() if state and state.startswith(sign)]
        fix = fixes[0] if fixes else "plug it in with USB debugging on, and name it: device=adb:SERIAL"
        raise UserError(why, where="device", allowed=f"attached: {attached}", fix=fix)

    def _listed(self) -> dict[str, str]:
        """Serial -> state, of every device that adb sees."""
        try:
            lines = self._call([self.program, "devices"], QUICK_S).splitlines()
        except PocketOptError as error:
            raise UserError(
                f"adb does not work: {error.what}", where="device", fix="try adb devices"
            ) from None
        pairs = [line.split("\t", 1) for line in lines if "\t" in line]
        return {serial: state.strip() for serial, state in pairs}

    def _shell(self, command: str) -> Sequence[str]:
        return [self.program, "-s", self.name, "shell", command]

    def _make_folder(self) -> str:
        return "mktemp -d /data/local/tmp/pocket_opt.XXXXXX"

    def _copy(self, folder: Path, place: str) -> None:
        self._call([self.program, "-s", self.name, "push", f"{folder}/.", place], None)
