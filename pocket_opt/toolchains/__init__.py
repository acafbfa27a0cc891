"""Vendor tools that need an environment of their own, because their versions contradict those of this one.

A folder `toolchains/<name>/` is a toolchain: `requirements.txt` pins every distribution (its first line says what for),
and the other files are the tasks that run there. They see nothing of this package, so they import nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pocket_opt.errors import unknown_name
from pocket_opt.identity import digest

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Toolchain:
    """A set of pinned distributions and the tasks that run with them.

    Attributes:
        folder: holds the requirements and the modules of the tasks.
        summary: what it is for, one line.
        pins: distribution -> version, all that is installed.
    """

    name: str
    folder: Path
    summary: str
    pins: tuple[tuple[str, str], ...]

    @property
    def requirements(self) -> Path:
        """The file that pip reads."""
        return self.folder / REQUIREMENTS

    @property
    def tools(self) -> dict[str, str]:
        """What enters the key of a pass that runs there; known without the environment."""
        return {f"{self.name}/{distribution}": version for distribution, version in self.pins}

    def digest(self) -> str:
        """Identity of the pins, 64 hexadecimal digits."""
        return digest("toolchain", [self.name, sorted(self.pins)])


def toolchain_names() -> list[str]:
    """Every toolchain."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{REQUIREMENTS}"))


@cache
def load_toolchain(name: str) -> Toolchain:
    """The toolchain called `name`; UserError with the nearest name if there is none."""
    if name not in toolchain_names():
        raise unknown_name("toolchain", name, toolchain_names(), where="toolchain")
    return read_toolchain(Path(__file__).parent / name)


def read_toolchain(folder: Path) -> Toolchain:
    """The toolchain in `folder`; ValueError for a requirement that is not pinned."""
    lines = [line.strip() for line in (folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines()]
    pins = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        distribution, pinned, version = line.partition("==")
        if not pinned or not version:
            raise ValueError(f"{folder / REQUIREMENTS}: '{line}' pins no version")
        pins.append((distribution, version))
    return Toolchain(folder.name, folder, lines[0].lstrip("# "), tuple(pins))
