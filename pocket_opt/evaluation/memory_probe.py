"""The child's side of the memory measurement: transcribe one clip in a fresh process and read its peak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocket_opt.artifact import Artifact
from pocket_opt.evaluation.forced import synthetic_audio
from pocket_opt.runtimes.base import DecodeOptions
from pocket_opt.worker_child import peak_bytes


def probe(payload: Mapping[str, Any], progress: Callable[[int, int, str], None]) -> int:
    """Transcribe `payload["seconds"]` of synthetic audio with the artifact in `payload["root"]`; peak bytes."""
    from pocket_opt.runtimes import open_runtime

    runtime = open_runtime(Artifact.load(Path(payload["root"])), threads=payload["threads"])
    audio = synthetic_audio(payload["seconds"], runtime.sample_rate)
    runtime.transcribe([audio], DecodeOptions(max_new_tokens=payload["new_tokens"], beams=payload["beams"]))
    progress(1, 1, "clips")
    return peak_bytes()
