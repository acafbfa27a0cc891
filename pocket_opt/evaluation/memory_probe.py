"""The child's side of the memory measurement: transcribe one clip in a fresh process and read its peak."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import synthetic_audio
from pocket_opt.runtimes.base import DecodeOptions


def probe(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> int:
    """Transcribe `payload["seconds"]` of synthetic audio with the artifact in `payload["root"]`; peak bytes."""
    from pocket_opt.runtimes import open_runtime

    runtime = open_runtime(Artifact.load(Path(payload["root"])), threads=payload["threads"])
    audio = synthetic_audio(payload["seconds"], runtime.sample_rate)
    runtime.transcribe([audio], DecodeOptions(max_new_tokens=payload["new_tokens"]))
    progress(1, 1, "clips")
    return peak_bytes()


def peak_bytes() -> int:
    """Largest resident set of this process so far.

    On Linux the high-water mark of the current address space: getrusage's ru_maxrss survives exec, so a child of a
    large process would report the parent's peak as its own.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
