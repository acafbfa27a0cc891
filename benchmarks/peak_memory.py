"""Peak memory of a whole optimization: the summed resident sets of the command and all its workers.

    python benchmarks/peak_memory.py recipe=whisper_tiny recipe.model.weights=random level=HIGH

Runs `python -m pocket_opt` with the given overrides in an empty home and output directory, samples every 20 ms, and
compares the peak with what is promised: three times the fp32 weights plus 1 GB. Linux only. Pages that processes share
are counted for each of them, so the true peak is at most what is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL_S = 0.02
ALLOWANCE_BYTES = 1_000_000_000


def main(overrides: Sequence[str]) -> int:
    """Run, sample, print; the exit code is the command's, or 1 if the promise is broken."""
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "POCKET_OPT_HOME": f"{place}/home"}
        command = [sys.executable, "-m", "pocket_opt", *overrides, f"output_dir={place}/outputs"]
        child = subprocess.Popen(command, env=environment)
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(map(resident_bytes, tree(child.pid))))
            time.sleep(INTERVAL_S)
        weights = max((path.stat().st_size for path in Path(place).rglob("model*.safetensors")), default=0)
    limit = 3 * weights + ALLOWANCE_BYTES
    print(f"peak {peak / 1e9:.2f} GB, fp32 weights {weights / 1e9:.2f} GB, limit {limit / 1e9:.2f} GB")
    return child.returncode or int(peak > limit)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
