"""Computers that take commands by ssh: a Raspberry Pi, a laptop, a server. Keys only: nothing is ever asked for."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, ClassVar, cast

from pocket_opt.devices.base import Device, Identity
from pocket_opt.errors import PocketOptError, UserError

OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")


class Ssh(Device):
    """See Device; `name` is [USER@]HOST, or a name from your ssh configuration."""

    program = "ssh"
    install = "install an ssh client (Debian: apt-get install openssh-client)"
    remedies: ClassVar[dict[str, str]] = {
        "permission denied": "put your key there: ssh-copy-id; passwords are never asked for",
        "host key verification failed": "connect once by hand with ssh, and compare the key",
        "could not resolve": "correct the name of the host",
        "connection refused": "start the ssh server there",
        "timed out": "see whether it is on, and on this network",
        "no route to host": "see whether it is on, and on this network",
        "broken pipe": "the connection broke: run it again",
        "closed by remote host": "the connection broke: run it again",
        "no space left": "free some space in its temporary directory",
    }

    def identity(self) -> Identity:
        """Model of the board, or the name it goes by; kernel and system."""
        board = self.ask("cat /proc/device-tree/model 2>/dev/null || hostname").strip("\0")
        return Identity(board, self.ask("uname -srm"))

    def _reach(self) -> None:
        try:
            self.run("true")
        except PocketOptError as error:
            raise UserError(
                error.what, where=f"device=ssh:{self.name}", fix=error.fix or "try ssh by hand"
            ) from None

    def _shell(self, command: str) -> Sequence[str]:
        return [self.program, *OPTIONS, self.name, command]

    def _make_folder(self) -> str:
        return 'mktemp -d "${TMPDIR:-/tmp}/pocket_opt.XXXXXX"'

    def _copy(self, folder: Path, place: str) -> None:
        command = self._shell(f"tar -C '{place}' -xf -")
        with tempfile.TemporaryFile() as told:  # a pipe that nobody reads meanwhile would hold up both sides
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told
            ) as remote:
                sending = cast("IO[bytes]", remote.stdin)
                with (
                    suppress(BrokenPipeError),
                    tarfile.open(fileobj=sending, mode="w|", dereference=True) as stream,
                ):
                    stream.add(folder, arcname=".")
                with suppress(BrokenPipeError):  # what was lost is told by the exit code
                    sending.close()
            told.seek(0)
            said = told.read().decode(errors="replace")
        if remote.returncode:
            raise self._failure(command[-1], remote.returncode, said or "broken pipe")
