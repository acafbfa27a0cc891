"""What a command costs: wall time, and the summed resident sets of it and all its children. Linux only."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL_S = 0.02


@dataclass(frozen=True)
class Cost:
    """Attributes: `wall_s` in seconds, `peak_bytes` of memory, and the `exit_code`."""

    wall_s: float
    peak_bytes: int
    exit_code: int


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run `command`, looking at its memory every 20 ms.

    Pages that processes share are counted for each of them, so the true peak is at most what is returned.
    """
    began, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, env=dict(environment))
    while child.poll() is None:
        peak = max(peak, sum(map(resident_bytes, tree(child.pid))))
        time.sleep(INTERVAL_S)
    return Cost(time.perf_counter() - began, peak, child.returncode)


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def resident_bytes(pid: int) -> int:
    """The resident set of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0
