"""What can be done on a device that a shell reaches: say what it is, take a folder, run a command, clean up."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocket_opt.errors import PocketOptError, UserError

QUICK_S = 60.0
"""For commands that only ask."""
SPARE_BYTES = 20_000_000
"""That must be left on a device beside what is pushed."""
_TAIL = 400


@dataclass(frozen=True)
class Identity:
    """What a device says of itself: model and chip, and the build of its system."""

    name: str
    build: str


class Device(ABC):
    """A device with a POSIX shell.

    Attributes:
        program: what reaches it from here.
        install: how to get that.
        remedies: what its errors begin to mean: a part of the message (in lower case) -> what to do.
    """

    program: ClassVar[str]
    install: ClassVar[str]
    remedies: ClassVar[dict[str, str]]

    def __init__(self, name: str) -> None:
        if shutil.which(self.program) is None:
            raise UserError(
                f"the program '{self.program}' is not installed, by which the device is reached",
                where="device",
                fix=self.install,
            )
        self.name = name
        self._reach()

    @abstractmethod
    def identity(self) -> Identity:
        """Its name and build."""

    @abstractmethod
    def _reach(self) -> None:
        """Raise UserError unless the device answers."""

    @abstractmethod
    def _shell(self, command: str) -> Sequence[str]:
        """The command line that runs `command` in the device's shell."""

    @abstractmethod
    def _make_folder(self) -> str:
        """The command that makes an empty folder of its own and prints its path."""

    @abstractmethod
    def _copy(self, folder: Path, place: str) -> None:
        """Copy the files of `folder` into `place` on the device."""

    def run(self, command: str, *, timeout_s: float | None = QUICK_S, longer: str = "") -> str:
        """What `command` prints on the device.

        Args:
            longer: the key that allows more time, for the error.

        Raises:
            PocketOptError: it failed there, took too long, or the device was lost.
        """
        return self._call(self._shell(command), timeout_s, longer)

    def ask(self, command: str) -> str:
        """The last line that `command` prints: some shells greet before it. PocketOptError as for `run`."""
        lines = self.run(command).splitlines()
        return lines[-1].strip() if lines else ""

    @contextmanager
    def placed(self, folder: Path) -> Iterator[str]:
        """The files of `folder` on the device while the context lasts; gives where they are.

        Raises:
            PocketOptError: they do not fit, or the device was lost; what was written is removed again if it can be.
        """
        place = self.ask(self._make_folder())
        try:
            self._require_room(folder, place)
            self._copy(folder, place)
            yield place
        finally:
            with suppress(PocketOptError):
                self.run(f"rm -rf {shlex.quote(place)}")

    def _require_room(self, folder: Path, place: str) -> None:
        needed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        told = self.ask(f"df -k {shlex.quote(place)}").split()
        free = next((int(word) * 1024 for word in told[3:4] if word.isdigit()), None)
        if free is not None and free < needed + SPARE_BYTES:
            raise PocketOptError(
                f"the device is full: {free / 1e6:.0f} MB are free and {(needed + SPARE_BYTES) / 1e6:.0f} are needed",
                where=f"{self.program}:{self.name}, {place}",
                fix="free some space there, or use fewer clips: data.evaluation.limit=N",
            )

    def _call(self, command: Sequence[str], timeout_s: float | None, longer: str = "") -> str:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PocketOptError(
                f"the device did not finish within {timeout_s:g} s",
                where=f"{self.program}:{self.name}: {command[-1][:200]}",
                fix="see whether it hangs or sleeps" + (f", or raise {longer}" if longer else ""),
            ) from None
        if done.returncode:
            raise self._failure(command[-1], done.returncode, done.stderr or done.stdout)
        return done.stdout

    def _failure(self, what: str, code: int, said: str) -> PocketOptError:
        """The error for a command that failed, with what to do where that is known."""
        text = " ".join(said.split())[-_TAIL:]
        remedy = next((fix for sign, fix in self.remedies.items() if sign in text.lower()), "")
        return PocketOptError(
            f"the device refused or was lost (exit code {code}): {text or 'nothing was said'}",
            where=f"{self.program}:{self.name}: {what[:200]}",
            fix=remedy or "try the command by hand",
        )
